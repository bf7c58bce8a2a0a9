"""The checkpoint that an interrupted run goes on from."""

from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """Writes `checkpoints/last.ckpt` after every validation.

    `save_last` of a checkpoint callback that monitors a metric writes only when the metric has improved, so that a
    resumed run would fall back behind what was trained.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_top_k=1, enable_version_counter=False, save_on_train_epoch_end=False)
