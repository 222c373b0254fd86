"""The published figures that ours stand beside: Yang et al., ICCV 2021, in percent; * is a white box."""

from typing import Any

RECOGNISERS = ("ArcFace", "MobileFace", "ResNet50", "SphereFace", "FaceNet", "CosFace")


def _table(rows: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"source, method": name, **dict(zip(RECOGNISERS, cells.split(), strict=True))}
        for name, cells in rows.items()
    ]


# Rank-1-T / Rank-5-T on LFW.
TABLE_3 = _table(
    {
        "ArcFace, MIM": "94.0/96.9* 14.3/45.8 8.2/32.4 3.1/14.5 3.1/17.9 1.7/10.1",
        "ArcFace, DIM": "94.8/97.6* 16.8/48.0 10.8/34.8 4.2/15.6 4.4/19.0 2.6/11.0",
        "ArcFace, MT-DIM": "34.8/68.2* 18.8/53.6 15.8/46.0 3.8/18.4 9.6/33.6 2.0/11.2",
        "ArcFace, Center-Opt": "59.4/84.6* 36.8/66.0 28.8/57.6 6.6/21.4 11.8/35.4 3.8/13.0",
        "ArcFace, TIP-IM": "97.2/98.8* 69.8/90.6 56.0/80.6 13.2/32.0 32.8/56.2 11.4/31.0",
        "MobileFace, MIM": "8.1/27.9 96.1/98.3* 26.7/61.5 4.5/18.0 3.7/19.4 0.3/4.1",
        "MobileFace, DIM": "9.4/28.8 96.6/98.4* 28.8/63.2 6.2/19.2 4.8/20.6 1.2/5.2",
        "MobileFace, TIP-IM": "44.0/68.2 96.6/99.2* 62.8/85.8 12.6/29.8 28.8/46.2 12.4/31.2",
        "ResNet50, TIP-IM": "34.2/56.8 62.4/83.4 95.6/98.2* 11.4/25.6 23.2/40.0 10.8/26.2",
    },
)
# Rank-1-UT / Rank-5-UT on LFW.
TABLE_4 = _table(
    {
        "ArcFace, DIM": "95.8/91.8* 67.6/58.2 58.2/48.0 79.6/68.2 67.4/53.6 74.2/62.8",
        "ArcFace, MT-DIM": "96.0/93.6* 73.6/65.2 64.8/54.2 82.8/73.0 73.0/60.0 74.4/63.8",
        "ArcFace, TIP-IM": "97.4/96.4* 79.4/68.8 70.4/56.8 85.2/76.6 73.4/63.4 84.0/73.8",
        "MobileFace, TIP-IM": "68.6/58.8 96.6/94.8* 81.4/71.2 84.4/74.0 77.6/60.4 79.4/68.2",
        "ResNet50, TIP-IM": "83.6/59.6 87.0/81.8 96.8/94.6* 85.8/75.0 79.4/65.4 83.6/73.0",
    },
)
# Naturalness against γ, ArcFace.
TABLE_5 = [
    {"γ": gamma, "PSNR": psnr, "SSIM": ssim, "MMD": mmd}
    for gamma, psnr, ssim, mmd in (
        (0, 25.26, 0.652, 0.7567),
        (1, 25.59, 0.669, 0.7562),
        (2, 26.08, 0.699, 0.7554),
        (3, 27.63, 0.782, 0.7518),
    )
]
# SSIM against the batch of the MMD, CosFace.
TABLE_6 = [
    {"batch": batch, "SSIM": ssim}
    for batch, ssim in ((10, 0.852), (20, 0.839), (30, 0.759), (40, 0.702), (50, 0.676))
]
TABLE_7 = "StyleGAN faces as targets: Rank-1-UT 49.6 to 95.0 over the recognisers."
# Rank-1-T with the MegFace gallery, ArcFace source.
TABLE_8 = [dict(zip(RECOGNISERS, ["97.2*", "60.1", "51.4", "10.1", "25.3", "11.1"], strict=True))]
SEARCH_API = (
    "Commercial search API: 20 probes, all found at rank 1 before; after protection a target is at rank "
    "1 for 6 of them and within rank 5 for 16."
)
# Cosines at FAR 0.1, 0.01 and 0.001 that AMT-GAN published for its networks, under the names that
# `tipim models add --name` should give them.
THRESHOLDS = {
    "ir152": (0.094632, 0.166788, 0.227922),
    "irse50": (0.144840, 0.241045, 0.312703),
    "facenet": (0.256587, 0.409131, 0.591191),
    "mobileface": (0.183635, 0.301611, 0.380878),
}
# PSR (%) at FAR 0.01; the average is over CelebA-HQ and LADN.
_NETWORKS = ("data", "method", "irse50", "ir152", "facenet", "mobileface", "average")
VERIFICATION = [
    dict(zip(_NETWORKS, row, strict=True))
    for row in (
        ("CelebA-HQ", "TIP-IM", 54.40, 37.23, 40.74, 48.72, 50.06),
        ("LADN (?)", "TIP-IM", 65.89, 43.57, 63.50, 46.48, None),
        ("CelebA-HQ", "AMT-GAN", 76.96, 35.13, 16.62, 50.71, 52.84),
        ("CelebA-HQ", "CLIP2Protect", 81.10, 48.42, 41.72, 75.26, 64.90),
        ("CelebA-HQ", "DiffAM", 92.00, 63.13, 64.67, 83.35, 77.88),
        ("CelebA-HQ", "WeakenDiff", 88.87, 67.25, 59.53, 91.57, 79.17),
    )
]


def _rows(text: str) -> list[dict[str, str]]:
    names = ("flags", "data", "protocol", "measure", "TIP-IM")
    lines = (line.split(" | ") for line in text.strip().splitlines())
    return [dict(zip(names, cells, strict=True)) for cells in lines]


# The ten published rows; `flags` is the row's file in experiments/configs/*/.
IDENTIFICATION_ROWS = _rows("""
row01_lfw_dodging | LFW | CLIP2Protect, dodging (?) | Rank-1 PSR (Rank-1-UT) on mobileface | 82.2 %
row02_lfw_impersonation | LFW | CLIP2Protect, impersonation (?) | Rank-1 PSR (Rank-1-T) on mobileface | 34 %
row03_celeba_hq_identification | CelebA-HQ | CLIP2Protect, impersonation (?) | Rank-1-T PSR | 21.2 %
""")
VERIFICATION_ROWS = _rows("""
row04_celeba_hq_irse50 | CelebA-HQ | AMT-GAN | PSR on irse50 at FAR 0.01 | 54.40 %
row05_ladn_irse50 | LADN | AMT-GAN | PSR on irse50 at FAR 0.01 | 65.89 %
row06_average | CelebA-HQ and LADN | AMT-GAN | PSR at FAR 0.01, mean of both on four networks | 50.06 %
row07_celeba_hq_ir152 | CelebA-HQ | impersonation | ASR on ir152 at FAR 0.01, a share | 0.4126
row08_ffhq_ir152 | FFHQ | impersonation | ASR on ir152 at FAR 0.01 | 46.25 %
row09_celeba_hq_box_irse50 | CelebA-HQ | impersonation | PSR on irse50 at FAR 0.01 | 57.29 %
row10_celeba_hq_quality | CelebA-HQ | AMT-GAN, DiffAM (?) | PSNR; SSIM .921; FID 38.74 (not here) | 33.2106 dB
""")
RECALLED = "(?): recalled, not seen at its source."
