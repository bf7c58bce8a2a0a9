"""What images look like to a reader: which channels (`sources`), in which `windows`, in which figure (`panels`)."""
