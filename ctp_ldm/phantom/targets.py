"""The figures that a phantom with early MRI is held to, with their ranges and sources."""

from dataclasses import dataclass

FIESELMANN = "Fieselmann et al. 2011"
CEREDA = "Cereda et al. 2016 (PMC5076783)"
HAKIM = "Hakim et al. 2021 (PMC8240494)"
LACUNES = "readers: 0.42–0.78, review 0–0.62 (PMC10177869, PMC8013028)"


@dataclass(frozen=True)
class Target:
    """One figure of `calibration.summarise`: its key there, what it is, its range, and who says so.

    `why` is empty for what is tested; else it says why the figure is only shown beside the published one.
    """

    key: str
    name: str
    unit: str
    low: float
    high: float
    source: str
    why: str = ""

    def missed(self, found: dict[str, float]) -> bool:
        """Whether the figure is tested and not within its range."""
        return not self.why and not self.low <= found[self.key] <= self.high


UNKNOWN = "no published value"
ADC_UNIT = "10⁻⁶ mm²/s"
TARGETS = (
    Target("rule bias", "rCBF < 38 %, bias of volume", "mL", -6, 6, f"0.3, {CEREDA}"),
    Target("rule difference", "rCBF < 38 %, mean absolute difference", "mL", 10, 19, f"14.3, {CEREDA}; 15.3, ISLES'18"),
    Target("rule sensitivity", "rCBF < 38 %, voxel sensitivity", "", 0.50, 0.74, f"0.67, {CEREDA}"),
    Target("rule Dice", "rCBF < 38 %, Dice per patient", "", 0.25, 0.40, f"0.30, {HAKIM}"),
    Target("CT Dice", "learnable Dice, 63 patients to learn from", "", 0.42, 0.56, f"0.51 and 0.46, {HAKIM}"),
    Target("CT difference", "the same, mean absolute difference", "mL", 8, 14, f"10.2, {HAKIM}"),
    Target("lesion_ml 50 %", "infarct, median", "mL", 10, 20, f"15.2, {HAKIM}"),
    Target("lesion_ml 25 %", "infarct, lower quartile", "mL", 5, 20, f"5.7, {HAKIM}"),
    Target("lesion_ml 75 %", "infarct, upper quartile", "mL", 10, 50, f"45, {HAKIM}"),
    Target("Spearman onset_minutes", "infarct with time since onset, Spearman", "", 0, 1, "more time, more infarct"),
    Target("Spearman collaterals", "infarct with collaterals, Spearman", "", -1, 0, "better collaterals, less"),
    Target("lacunes", "lacunes seen, less chance, at 0.2 false foci", "", 0.25, 0.65, LACUNES),
    Target("small", "patients of the mix with emboli or a lacune", "", 0.13, 0.25, "15–20 %"),
    Target("hu_grey", "grey matter before contrast", "HU", 35.5, 38.5, "37"),
    Target("hu_white", "white matter before contrast", "HU", 27.5, 31.0, "29"),
    Target("peak_grey", "peak of grey matter", "HU", 8.0, 12.0, FIESELMANN),
    Target("peak_white", "peak of white matter", "HU", 3.0, 5.2, FIESELMANN),
    Target("peak_artery", "peak of the arterial input", "HU", 200.0, 400.0, FIESELMANN),
    Target("adc_grey", "ADC of grey matter", ADC_UNIT, 790.0, 870.0, "800–850"),
    Target("adc_white", "ADC of white matter", ADC_UNIT, 690.0, 760.0, "700–750"),
    Target("adc_lesion", "ADC of the lesion, mean", ADC_UNIT, 590.0, 660.0, "620 ± 75"),
    Target("adc_lesion SD", "ADC of the lesion, SD between patients", ADC_UNIT, 50.0, 100.0, "620 ± 75"),
    Target("adc_within", "ADC of the lesion, SD within", ADC_UNIT, 100.0, 170.0, "100–150, and noise"),
    Target("b0_lesion", "b0 of the lesion over healthy tissue", "", 1.0, 1.6, "1.0–1.15 early, 1.2–1.6 late"),
    Target("low_adc_dice 50 %", "ADC ≤ 620, Dice with the label, median", "", 0.35, 0.51, "0.43, Gosch et al. 2023"),
    Target("auc_hu", "HU before contrast, voxel AUC", "", 0.52, 0.70, "early signs are subtle"),
    Target("rule SD", "rCBF < 38 %, SD of the difference", "mL", 17, 47, f"19.8, {CEREDA}", "heavy tails"),
    Target("rule false", "rCBF < 38 %, false volume", "mL", 10, 16, "derived from bias and sensitivity", "derived"),
    Target("auc_cbf", "CBF, voxel AUC", "", 0.77, 0.90, "0.79–0.88, several", "passes while volumes fail by 80 mL"),
    Target("core_flow", "true relative flow in the core", "", 0.13, 0.30, "Mui et al. 2011 (PMC7965545)", "MR"),
    Target("truth Dice", "learnable Dice, told the true flow", "", 0, 1, "–", UNKNOWN),
    Target("truth difference", "the same, mean absolute difference", "mL", 0, 30, "–", UNKNOWN),
    Target("Spearman truly_low_ml", "infarct with true flow < 38 %, Spearman", "", 0, 1, "–", UNKNOWN),
)
