"""What an arm would score that finds no lesion in anyone: what a blank image is worth."""

import pandas as pd

OVERLAP = ("dice", "lesion_dice", "lesion_f1", "lesion_f1_overlap")
FOUND = ("sensitivity", "detected", "detected_10ml", "found_ml", "shared_ml", "any_false_free")
FALSE = "false_"
"""Beginnings of columns of what is found outside the lesion."""
ERROR = "absolute_volume_error_ml"


def nothing_found(column: str, values: pd.Series, volumes_ml: pd.Series) -> pd.Series | None:
    """Patient → value; None for columns that the lesions' volumes alone do not tell.

    Args:
        column: of the table of patients.
        values: of any arm; where it is defined hangs on the reference lesion, so it is the same here.
        volumes_ml: of the reference lesions.
    """
    if column in OVERLAP:
        found = (volumes_ml == 0).astype(float)
    elif column in FOUND or column.startswith(FALSE):
        found = volumes_ml * 0.0
    elif column == ERROR:
        found = volumes_ml
    else:
        return None
    return found.where(values.notna())
