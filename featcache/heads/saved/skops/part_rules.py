"""The rules for parts of estimators that need more than a shape: trees, layers, random states, support vectors."""

from typing import Any

import numpy as np

from featcache.heads.saved.skops.description import DescribedObject
from featcache.heads.saved.skops.rules import (
    AttributeRules,
    MisfitError,
    Rule,
    Sizes,
    array,
    either,
    equal,
    instance,
    listed,
    optional,
    plain,
    sizes_of,
    unused,
    whole,
)  # fmt: skip

_LARGEST_SEED = 1 << 256


def generator(value: Any, sizes: Sizes) -> None:
    """Require a random state as NumPy writes it; it is built before anything can look at it."""
    if isinstance(value, DescribedObject) and value.type == "numpy.random._generator.Generator":
        bits, seed = value.attributes.get("bit_generator"), value.attributes.get("seed_seq", {})
        plain_seed = isinstance(seed, dict) and set(seed) <= {"entropy", "spawn_key", "pool_size", "n_children_spawned"}
        if not plain_seed or seed.get("pool_size", 4) != 4 or not _is_seed(seed.get("entropy")):
            raise MisfitError("is not the seed of a random generator")
        if not isinstance(bits, dict) or bits.get("bit_generator") != "PCG64":
            raise MisfitError("is not the state of a random generator")
        plain(bits.get("state"), sizes)
        plain(seed.get("spawn_key", ()), sizes)
        return
    if not isinstance(value, DescribedObject) or value.type != "numpy.random.mtrand.RandomState":
        raise MisfitError("is neither a seed nor a random state")
    state = value.attributes.get("state")
    if value.attributes.get("bit_generator") != "MT19937" or not isinstance(state, dict):
        raise MisfitError("is not a state of MT19937")
    array(624, kinds="<u4")(state.get("key"), sizes)
    whole(0, 624)(state.get("pos"), sizes)


def _is_seed(value: Any) -> bool:
    return value is None or (isinstance(value, int | np.integer) and 0 <= int(value) < _LARGEST_SEED)


_COMPILED = (
    "sklearn._loss._loss.CyHalfBinomialLoss", "sklearn._loss._loss.CyHalfMultinomialLoss",
    "sklearn._loss._loss.CyExponentialLoss", "sklearn._loss._loss.CyHalfSquaredError",
    "sklearn._loss._loss.CyHuberLoss", "sklearn.linear_model._sgd_fast.Hinge",
    "sklearn.linear_model._sgd_fast.SquaredHinge", "sklearn.linear_model._sgd_fast.ModifiedHuber",
    "sklearn.linear_model._sgd_fast.EpsilonInsensitive", "sklearn.linear_model._sgd_fast.SquaredEpsilonInsensitive",
)  # fmt: skip


def compiled_loss(value: Any, _: Sizes) -> None:
    """Require a loss of scikit-learn's: no state but a number or two."""
    if not isinstance(value, DescribedObject) or value.type not in _COMPILED or value.attributes:
        raise MisfitError("is not a loss that can be checked")
    if len(value.arguments) > 1 or not all(isinstance(item, int | float | np.number) for item in value.arguments):
        raise MisfitError("is a loss with other settings than a number")


_INTERVAL = instance({"sklearn._loss.link.Interval": AttributeRules()})
_LINK = instance(
    {f"sklearn._loss.link.{name}": AttributeRules(interval_y_pred=optional(_INTERVAL))
     for name in ("MultinomialLogit", "LogitLink", "HalfLogitLink")}
)  # fmt: skip
BOOSTING_LOSS = instance(
    {f"sklearn._loss.loss.{name}": AttributeRules(
        closs=compiled_loss, link=_LINK, interval_y_true=_INTERVAL, interval_y_pred=_INTERVAL,
        class_indexing_offsets=optional(equal(None)),
    ) for name in ("HalfMultinomialLoss", "HalfBinomialLoss", "ExponentialLoss")}
)  # fmt: skip


def ridge_coefficients(value: Any, sizes: Sizes) -> None:
    """Require a row for each class; one row alone may be without its first dimension."""
    array(*(("F",) if sizes["L"] == 1 and np.ndim(value) == 1 else ("L", "F")))(value, sizes)


def support_vectors(attributes: Any, sizes: Sizes) -> None:
    """Require that the classes share the support vectors, and both halves of the probabilities or none."""
    if attributes["_n_support"].sum(dtype=np.int64) != sizes["S"] or not sizes["S"]:
        raise MisfitError(f"_n_support does not add up to the {sizes['S']} support vectors")
    if len(attributes["_probA"]) != len(attributes["_probB"]):
        raise MisfitError("_probA and _probB differ in length")


def pair_probabilities(value: Any, sizes: Sizes) -> None:
    """Require one number for each pair of classes, or none at all."""
    either(array(0, kinds="<f8"), array("P", kinds="<f8"))(value, sizes)


def categories(attributes: Any, sizes: Sizes) -> None:
    """Require a table (classes, categories) for each feature."""
    for name in ("category_count_", "feature_log_prob_"):
        listed(unused, "F")(attributes[name], sizes)
        for part, width in zip(attributes[name], attributes["n_categories_"].tolist(), strict=True):
            array("C", width, finite=False)(part, sizes)


def rotations(attributes: Any, sizes: Sizes) -> None:
    """Require a scaling (rank,) and a rotation (features, rank) for each class."""
    for name in ("scalings_", "rotations_"):
        listed(unused, "C")(attributes[name], sizes)
    for scaling, rotation in zip(attributes["scalings_"], attributes["rotations_"], strict=True):
        own = dict(sizes)
        array("rank")(scaling, own)
        array("F", "rank")(rotation, own)


def layers(attributes: Any, sizes: Sizes) -> None:
    """Require layers that lead from the features to the outputs, each as wide as the one before it ends."""
    weights, biases = attributes["coefs_"], attributes["intercepts_"]
    for values in (weights, biases):
        listed(unused, attributes["n_layers_"] - 1)(values, sizes)
    width = sizes["F"]
    for weight, bias in zip(weights, biases, strict=True):
        own = {"in": width}
        array("in", "out")(weight, own)
        array("out")(bias, own)
        width = own["out"]
    if width != sizes["L"]:
        raise MisfitError(f"leads to {width} outputs, expected {sizes['L']}")


def tree(outputs: str) -> Rule:
    """Return the rule for a tree: its nodes lead to later nodes within it, ask for a feature that there is, and hold
    (outputs,) values each.

    A tree's compiled code follows children and features unchecked, and copies as many nodes as `node_count` says.
    """
    from sklearn.tree._tree import NODE_DTYPE

    def check(value: Any, sizes: Sizes) -> None:
        if (
            not isinstance(value, DescribedObject)
            or value.type != "sklearn.tree._tree.Tree"
            or len(value.arguments) != 3
        ):
            raise MisfitError("is not a tree that can be checked")
        width = sizes[outputs] if outputs else 1
        features, of_classes, number_of_outputs = value.arguments
        whole("F", "F")(features, sizes)
        array(1, kinds="<i8", low=width, high=width)(of_classes, sizes)
        equal(1)(number_of_outputs, sizes)
        if set(value.attributes) != {"max_depth", "node_count", "nodes", "values"}:
            raise MisfitError(f"holds {sorted(value.attributes)}")
        nodes = value.attributes["nodes"]
        _check_nodes(nodes, NODE_DTYPE)
        whole(len(nodes), len(nodes))(value.attributes["node_count"], sizes)
        whole(0, 1 << 31)(value.attributes["max_depth"], sizes)
        array(len(nodes), 1, width, kinds="<f8")(value.attributes["values"], sizes)
        _check_children(nodes["left_child"], nodes["right_child"], nodes["feature"], nodes["left_child"] == -1, sizes)
        if np.isnan(nodes["threshold"]).any():
            raise MisfitError("has a threshold that is not a number")

    return check


def boosted_nodes(value: Any, sizes: Sizes) -> None:
    """Require the nodes of one tree of histogram gradient boosting; none asks for a category, which embeddings lack."""
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE

    _check_nodes(value, PREDICTOR_RECORD_DTYPE)
    if value["is_categorical"].any() or np.isnan(value["num_threshold"]).any() or not np.isfinite(value["value"]).all():
        raise MisfitError("has a node that asks for a category, or a value that is not a number")
    left, right, feature = (value[name].astype(np.int64) for name in ("left", "right", "feature_idx"))
    _check_children(left, right, feature, value["is_leaf"] != 0, sizes)


def _check_nodes(nodes: Any, dtype: Any) -> None:
    if not isinstance(nodes, np.ndarray) or nodes.ndim != 1 or nodes.dtype != dtype or not len(nodes):
        raise MisfitError("has nodes of another make")


def _check_children(left: Any, right: Any, feature: Any, leaf: Any, sizes: Sizes) -> None:
    here = np.arange(len(left))
    inner = (left > here) & (left < len(here)) & (right > here) & (right < len(here))
    if not (leaf | (inner & (feature >= 0) & (feature < sizes["F"]))).all():
        raise MisfitError("has a node that lies outside of it")


def with_own_classes(types: Any) -> Rule:
    """Return the rule for an estimator that was fitted on some of the classes alone, which its `classes_` name."""

    def check(value: Any, sizes: Sizes) -> None:
        if not isinstance(value, DescribedObject) or value.type not in types:
            raise MisfitError("is an estimator that cannot be checked")
        own: Any = value.attributes.get("classes_")
        array("own", kinds="iuf", low=0, high="C")(own, own_sizes := dict(sizes))
        if not own_sizes["own"] or (np.diff(own) <= 0).any():
            raise MisfitError("has classes in no order")
        inner = DescribedObject(value.type, {**value.attributes, "classes_": np.arange(own_sizes["own"])})
        types[value.type].check(inner, sizes_of(sizes["F"], own_sizes["own"]))

    return check


def bagged(types: Any) -> Rule:
    """Return the rule for the estimators of a bag, each on the features that `estimators_features_` names for it."""

    def check(attributes: Any, sizes: Sizes) -> None:
        estimators, features = attributes["estimators_"], attributes["estimators_features_"]
        if not isinstance(estimators, list) or not isinstance(features, list) or len(estimators) != len(features):
            raise MisfitError("has lists of estimators and of their features of different lengths")
        for estimator, chosen in zip(estimators, features, strict=True):
            array("chosen", kinds="iu", low=0, high="F")(chosen, own := dict(sizes))
            with_own_classes(types)(estimator, {**sizes, "F": own["chosen"]})

    return check


def grid(types: Any) -> Rule:
    """Return the rule for an array (iterations, L) of trees."""

    def check(value: Any, sizes: Sizes) -> None:
        if not isinstance(value, np.ndarray) or value.dtype != object or value.ndim != 2 or not len(value):
            raise MisfitError("is not a table of trees")
        if value.shape[1] != sizes["L"]:
            raise MisfitError(f"has {value.shape[1]} trees an iteration, expected {sizes['L']}")
        for item in value.ravel():
            instance(types)(item, sizes)

    return check
