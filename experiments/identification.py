"""The paper's identification protocol: who is found of protected probes, in one study or another.

    python -m experiments.identification --data_dir=LFW --protocol=protocol.json \\
        --flagfile=experiments/configs/identification/table3_mobilefacenet_casia.flags \\
        --workdir=results/identification
    python -m experiments.identification --study=naturalness --data_dir=LFW --protocol=protocol.json \\
        --flagfile=experiments/configs/identification/table5.flags --workdir=results/naturalness

--study: `rows` (Rank-N-T and Rank-N-UT of protections), `naturalness` (against γ and the batch of the MMD),
`targets` (against their number), `survival` (after JPEG, scaling and so on), `opom` (one mask per person) or
`virtual` (the virtual targets themselves); the modules of `experiments.studies` say what each measures.

A row is a protection (`experiments.protection.specs` has the grammar of its name): a control, a preset, or any
method on any source, with the probes it is measured on:

        --rows=unprotected@500,medium,mobilefacenet_casia/tip_im@500,ensemble/mt_dim,sface/dim_best

Rows of methods that attack one target at a time and end in `_best` are run on every target, and reported twice:
the best per probe, and the one target that is best on the unseen recognisers. --compare=A,B,C adds the
differences A − B and A − C, each on the probes that both have. `naturalness`, `targets` and `opom` take one
--attack=SOURCE/METHOD. Finished parts are kept in --workdir: a run that was stopped goes on, rows may be added
later, and the seconds that each part took are in `cells.log`. --quick: a miniature of two probes.
"""

from absl import flags

from experiments.launching import launch
from experiments.protection.runs import Run
from experiments.studies import naturalness, opom, rows, survival, targets, virtual

STUDIES = ("rows", "naturalness", "targets", "survival", "opom", "virtual")
_STUDY = flags.DEFINE_enum("study", "rows", STUDIES, "What to measure.")
_ROWS = flags.DEFINE_list("rows", None, "Protections of `rows` and `survival`.")
_COMPARE = flags.DEFINE_list("compare", [], "Rows: the first minus each of the others.")
_ATTACK = flags.DEFINE_string("attack", None, "SOURCE/METHOD of the other studies.")
_GAMMAS = flags.DEFINE_list("gammas", ["0", "1", "2", "3"], "naturalness: weights of the MMD.")
_BATCHES = flags.DEFINE_list("batches", ["50"], "naturalness: batches of the MMD.")
_COUNTS = flags.DEFINE_list("counts", [str(n) for n in range(1, 11)], "targets: how many.")
_VIRTUAL = flags.DEFINE_string("virtual", None, "targets: source of a row with virtual ones.")
_PHOTOS = flags.DEFINE_integer(
    "photos", 10, "opom: photos of a person that a mask is made on, at the most.", lower_bound=1
)
_TARGETS = flags.DEFINE_string(
    "targets", None, "virtual: their file; the built-in ones by default."
)
_EPSILON = flags.DEFINE_float("epsilon", 8.0, "opom: bound on the mask, pixel levels.")

SETTING = "mobilefacenet_casia/tip_im"  # the paper's


def measured(run: Run, study: str) -> str:
    """Runs a study with what the flags say; returns the line with its main figure."""
    if study == "naturalness":
        batches = launch.numbers("batches", _BATCHES.value)
        return naturalness.study(run, _ATTACK.value or SETTING, _GAMMAS.value, batches)
    if study == "targets":
        counts = launch.numbers("counts", _COUNTS.value)
        return targets.study(run, _ATTACK.value or SETTING, counts, _VIRTUAL.value)
    if study == "survival":
        return survival.study(run, _ROWS.value or ["unprotected", SETTING, "medium"])
    if study == "opom":
        attack = _ATTACK.value or "mobilefacenet_casia/mim_untargeted"
        return opom.study(run, attack, _PHOTOS.value, _EPSILON.value)
    if study == "virtual":
        return virtual.study(run, _TARGETS.value)
    chosen = _ROWS.value or ["unprotected", SETTING, "low", "medium", "high"]
    return rows.study(run, chosen, _COMPARE.value)


def main(_: list[str]) -> None:
    study = _STUDY.value
    masks = (_PHOTOS.value, _EPSILON.value) if study == "opom" else None
    own = {"targets": _TARGETS.value or "built-in"} if study == "virtual" else {}
    name = "identification" if study == "rows" else study
    run = launch.begin(name, study=study, masks=masks, **own)
    print(measured(run, study))


if __name__ == "__main__":
    launch.run(main)
