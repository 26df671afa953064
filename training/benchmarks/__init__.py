"""The benchmarks by name; each is one file here, and a function of a scorer and the command's options."""

from . import corruptions, judgebench, llmbar, pairs, rewardbench, rewardbench2, rmb, rmbench, sentences
from .task import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    "rewardbench": rewardbench.run,
    "rewardbench2": rewardbench2.run,
    "rmbench": rmbench.run,
    "rmb": rmb.run,
    "judgebench": judgebench.run,
    "llmbar": llmbar.run,
    "pairs": pairs.run,
    "sentences": sentences.run,
    "corruptions": corruptions.run,
}
HUBS = {  # what is read where no file is given; the others have no data set on the hub
    "rewardbench": rewardbench.HUB,
    "rewardbench2": rewardbench2.HUB,
    "rmbench": rmbench.HUB,
    "judgebench": judgebench.HUB,
}
