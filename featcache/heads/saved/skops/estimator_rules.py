"""The rules for every estimator that featcache can check, once it is fitted: from its class to its attributes.

scikit-learn's compiled code follows many of these without looking (libsvm its coefficients, trees their children,
neighbours their labels), so all that a prediction reads is named here, with dtype, shape and range, for scikit-learn
1.7 to 1.9. A class that is not here, or one that holds an object that is not, cannot be checked.
"""

from typing import Any

from featcache.heads.saved.skops import part_rules
from featcache.heads.saved.skops.description import DescribedObject
from featcache.heads.saved.skops.rules import (
    AttributeRules,
    MisfitError,
    array,
    classes,
    either,
    equal,
    instance,
    listed,
    number,
    optional,
    plain,
    sizes_of,
    unused,
    whole,
)  # fmt: skip

_LINEAR = "sklearn.linear_model."
_TREES = "sklearn.tree._classes."
_GP = "sklearn.gaussian_process."
_THREADS = either(equal(None), whole(-1024, 1024))
_none = equal(None)
_unused = optional(unused)


def check_fitted(described: Any, number_of_classes: int) -> int:
    """Hold what a file describes to what its class implies, and return how many features it takes.

    Raises:
        MisfitError: nothing is known of its class or of a part of it, or an attribute contradicts the others or the
            number of classes.
    """
    if not isinstance(described, DescribedObject):
        raise MisfitError("it holds no estimator")
    if described.type not in ESTIMATORS:
        raise MisfitError(f"it holds a {described.type}, which cannot be checked")
    features = described.attributes.get("n_features_in_")
    whole(1, 1 << 24)(features, {})
    ESTIMATORS[described.type].check(described, sizes_of(int(features), number_of_classes))  # type: ignore[arg-type]
    return int(features)  # type: ignore[arg-type]


_seed = optional(either(equal(None), whole(-(1 << 63), 1 << 64), part_rules.generator))
_BASE = AttributeRules(n_features_in_=whole("F", "F"), classes_=classes, random_state=_seed, n_jobs=optional(_THREADS))
_BINARIZER = {
    "sklearn.preprocessing._label.LabelBinarizer": AttributeRules(
        classes_=classes, y_type_=equal("binary", "multiclass"), sparse_input_=equal(False),
        sparse_output=equal(False, True), neg_label=whole(-1, 0), pos_label=whole(1, 1),
    )
}  # fmt: skip
_INTERCEPT = either(number(), array("L"))
_COEFFICIENTS = AttributeRules(_BASE, coef_=array("L", "F"), intercept_=_INTERCEPT)
_STOCHASTIC = AttributeRules(
    _COEFFICIENTS, _standard_coef=_unused, _standard_intercept=_unused, _average_coef=_unused,
    _average_intercept=_unused, _expanded_class_weight=_unused, _loss_function_=optional(part_rules.compiled_loss),
    loss_function_=optional(part_rules.compiled_loss),
)  # fmt: skip
_RIDGE = AttributeRules(
    _COEFFICIENTS, coef_=part_rules.ridge_coefficients, _label_binarizer=instance(_BINARIZER),
     n_iter_=_unused, alpha_=_unused, cv_results_=_unused,
    alphas=_unused,
)  # fmt: skip
_LINEAR_SVC = AttributeRules(_COEFFICIENTS, n_iter_=_unused)
_SVC = AttributeRules(
    _BASE, support_vectors_=array("S", "F", kinds="<f8"), support_=array("S", kinds="<i4", low=0),
    _n_support=array("C", kinds="<i4", low=0), dual_coef_=array("C-1", "S", kinds="<f8"),
    _dual_coef_=array("C-1", "S", kinds="<f8"), intercept_=array("P", kinds="<f8"),
    _intercept_=array("P", kinds="<f8"), _probA=part_rules.pair_probabilities,
    _probB=part_rules.pair_probabilities, _gamma=number(),
    gamma=either(number(), equal("scale", "auto")), coef0=number(), degree=whole(0, 1000), cache_size=number(0, 1e6),
    kernel=equal("linear", "poly", "rbf", "sigmoid"), _sparse=equal(False), fit_status_=whole(0, 1),
    class_weight_=_unused, _num_iter=_unused, n_iter_=_unused, also=part_rules.support_vectors,
)  # fmt: skip
_COUNTED = AttributeRules(
    _BASE, class_count_=array("C", finite=False), feature_count_=array("C", "F", finite=False),
    class_log_prior_=array("C", finite=False), feature_log_prob_=array("C", "F", finite=False),
    feature_all_=optional(array("F", finite=False)),
)  # fmt: skip


_TREE = AttributeRules(
    n_features_in_=whole("F", "F"), n_outputs_=equal(1), max_features_=optional(whole(1, 1 << 24)), random_state=_seed,
)  # fmt: skip
_TREE_CLASSIFIER = AttributeRules(_TREE, classes_=classes, n_classes_=whole("C", "C"), tree_=part_rules.tree("C"))
_TREE_CLASSIFIERS = {f"{_TREES}{name}": _TREE_CLASSIFIER for name in ("DecisionTreeClassifier", "ExtraTreeClassifier")}
_TREE_REGRESSORS = {f"{_TREES}DecisionTreeRegressor": AttributeRules(_TREE, tree_=part_rules.tree(""))}
_TEMPLATE = optional(either(_none, instance(dict.fromkeys(_TREE_CLASSIFIERS, AttributeRules()))))  # not fitted
_FOREST = AttributeRules(
    _BASE, n_outputs_=equal(1), n_classes_=whole("C", "C"), n_estimators=whole(1), estimator=_TEMPLATE,
    estimator_=_TEMPLATE, estimators_=listed(instance(_TREE_CLASSIFIERS)), _sample_weight=_unused,
    oob_decision_function_=_unused,
)  # fmt: skip
_ENSEMBLE = AttributeRules(
    _BASE, n_classes_=whole("C", "C"), n_estimators=whole(1), estimator=_TEMPLATE, estimator_=_TEMPLATE,
)  # fmt: skip
_DUMMY = AttributeRules(
    n_features_in_=whole("F", "F"), classes_=classes, n_classes_=whole("C", "C"), n_outputs_=equal(1),
    sparse_output_=equal(False), class_prior_=array("C", low=0), constant=either(_none, whole(0, "C-1")),
    _strategy=equal("prior", "most_frequent", "stratified", "uniform", "constant"), random_state=_seed,
)  # fmt: skip
_BOOSTED_TREES = {
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor": AttributeRules(
        nodes=part_rules.boosted_nodes, binned_left_cat_bitsets=array(0, 8, kinds="<u4"),
        raw_left_cat_bitsets=array(0, 8, kinds="<u4"),
    )
}  # fmt: skip
_BINS = {
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper": AttributeRules(
        is_categorical=_unused, is_categorical_=array("F", kinds="u", low=0, high=0), bin_thresholds_=unused,
        n_bins_non_missing_=_unused, known_categories=_unused, random_state=_seed,
    )
}  # fmt: skip
_CALIBRATORS = {
    "sklearn.calibration._SigmoidCalibration": AttributeRules(a_=number(), b_=number()),
    "sklearn.isotonic.IsotonicRegression": AttributeRules(
        X_thresholds_=array("T"), y_thresholds_=array("T"), X_min_=number(), X_max_=number(),
        out_of_bounds=equal("clip"),
    ),
}  # fmt: skip
_CALIBRATED = {
    "sklearn.calibration._CalibratedClassifier": AttributeRules(
        estimator=part_rules.with_own_classes({"sklearn.svm._classes.LinearSVC": _LINEAR_SVC}), classes=classes,
        method=equal("sigmoid", "isotonic"), calibrators=listed(instance(_CALIBRATORS)),
    )
}  # fmt: skip
_LENGTHS = either(number(0), array("F", low=0))
_SIMPLE_KERNELS = {
    f"{_GP}kernels.ConstantKernel": AttributeRules(constant_value=number(), constant_value_bounds=_unused),
    f"{_GP}kernels.RBF": AttributeRules(length_scale=_LENGTHS, length_scale_bounds=_unused),
}
_KERNELS = {f"{_GP}kernels.Product": AttributeRules(k1=instance(_SIMPLE_KERNELS), k2=instance(_SIMPLE_KERNELS))}
_LAPLACE_RULES = AttributeRules(
    kernel=_none, optimizer=plain, random_state=_seed, rng=_seed, kernel_=instance(_KERNELS),
    X_train_=array("S", "F"), y_train_=array("S", kinds="iub", low=0, high=1), pi_=array("S"), W_sr_=array("S"),
    L_=array("S", "S"), f_cached=array("S"), classes_=array(2, kinds="iu", low=0, high=1),
)  # fmt: skip
_LAPLACE = f"{_GP}_gpc._BinaryGaussianProcessClassifierLaplace"
_ONE_VS_REST = AttributeRules(
    classes_=classes, estimator=instance({_LAPLACE: AttributeRules(kernel=_none, random_state=_seed)}),
    label_binarizer_=instance(_BINARIZER), estimators_=listed(instance({_LAPLACE: _LAPLACE_RULES}), "C"),
    n_jobs=_THREADS,
)  # fmt: skip
_PROCESS = {_LAPLACE: _LAPLACE_RULES, "sklearn.multiclass.OneVsRestClassifier": _ONE_VS_REST}
_OPTIMIZERS = {
    f"sklearn.neural_network._stochastic_optimizers.{name}": AttributeRules(
        ms=_unused, vs=_unused, velocities=_unused, params=_unused
    )
    for name in ("AdamOptimizer", "SGDOptimizer")
}
_METRICS = ("euclidean", "l2", "sqeuclidean", "manhattan", "l1", "cityblock", "cosine", "chebyshev", "minkowski")
_SPREAD = AttributeRules(
    _BASE, kernel=equal("rbf"), gamma=number(), X_=array("S", "F"), label_distributions_=array("S", "C"),
    transduction_=_unused,
)  # fmt: skip

ESTIMATORS: dict[str, AttributeRules] = {
    **{f"{_LINEAR}_{module}": rules for module, rules in {
        "logistic.LogisticRegression": AttributeRules(_COEFFICIENTS, n_iter_=_unused),
        "logistic.LogisticRegressionCV": AttributeRules(
            _COEFFICIENTS, n_iter_=_unused, Cs_=_unused, C_=_unused, l1_ratio_=_unused, l1_ratios_=_unused,
            scores_=_unused, coefs_paths_=_unused, Cs=_unused, l1_ratios=_unused,
        ),
        "passive_aggressive.PassiveAggressiveClassifier": _STOCHASTIC, "perceptron.Perceptron": _STOCHASTIC,
        "stochastic_gradient.SGDClassifier": _STOCHASTIC, "ridge.RidgeClassifier": _RIDGE,
        "ridge.RidgeClassifierCV": _RIDGE,
    }.items()},
    "sklearn.svm._classes.LinearSVC": _LINEAR_SVC, "sklearn.svm._classes.SVC": _SVC, "sklearn.svm._classes.NuSVC": _SVC,
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis": AttributeRules(
        _COEFFICIENTS, priors_=_unused, means_=_unused, xbar_=_unused, explained_variance_ratio_=_unused,
        scalings_=_unused, covariance_=_unused, priors=_unused,
    ),
    "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis": AttributeRules(
        _BASE, priors_=array("C", finite=False), means_=array("C", "F"), scalings_=unused,
        rotations_=unused, covariance_=_unused, priors=_unused, also=part_rules.rotations,
    ),
    "sklearn.naive_bayes.GaussianNB": AttributeRules(
        _BASE, theta_=array("C", "F"), var_=array("C", "F", low=0), class_count_=array("C"), class_prior_=array("C"),
        priors=_unused,
    ),
    "sklearn.naive_bayes.MultinomialNB": _COUNTED, "sklearn.naive_bayes.ComplementNB": _COUNTED,
    "sklearn.naive_bayes.BernoulliNB": AttributeRules(_COUNTED, binarize=either(_none, number())),
    "sklearn.naive_bayes.CategoricalNB": AttributeRules(
        _BASE, class_count_=array("C"), n_categories_=array("F", kinds="iu", low=1), category_count_=unused,
        feature_log_prob_=unused, class_log_prior_=array("C", finite=False), also=part_rules.categories,
    ),
    "sklearn.neighbors._nearest_centroid.NearestCentroid": AttributeRules(
        _BASE, centroids_=array("C", "F"), class_prior_=optional(array("C", low=0)), metric=equal(*_METRICS),
        within_class_std_dev_=optional(array("F", low=0)), deviations_=_unused, true_classes_=_unused,
    ),
    "sklearn.neighbors._classification.KNeighborsClassifier": AttributeRules(
        _BASE, _fit_X=array("S", "F"), n_neighbors=whole(1, "S"), _y=array("S", kinds="<i8", low=0, high="C"),
        outputs_2d_=equal(False), _tree=_none, _fit_method=equal("brute"), algorithm=equal("brute", "auto"),
        metric=equal(*_METRICS), effective_metric_=equal(*_METRICS), weights=equal("uniform", "distance"),
        n_samples_fit_=whole("S", "S"), metric_params=_none, effective_metric_params_=plain, p=number(1),
    ),
    "sklearn.dummy.DummyClassifier": _DUMMY,
    "sklearn.neural_network._multilayer_perceptron.MLPClassifier": AttributeRules(
        _BASE, coefs_=unused, intercepts_=unused, activation=equal("identity", "logistic", "tanh", "relu"),
        out_activation_=equal("softmax", "logistic"), n_outputs_=whole("L", "L"), n_layers_=whole(2),
        _label_binarizer=instance(_BINARIZER), _random_state=_seed,
        _coef_indptr=_unused, _intercept_indptr=_unused,
        _best_coefs=_unused, _best_intercepts=_unused,
        _optimizer=optional(instance(_OPTIMIZERS)), loss_curve_=_unused, validation_scores_=_unused,
        also=part_rules.layers,
    ),
    "sklearn.semi_supervised._label_propagation.LabelPropagation": _SPREAD,
    "sklearn.semi_supervised._label_propagation.LabelSpreading": _SPREAD,
    "sklearn.gaussian_process._gpc.GaussianProcessClassifier": AttributeRules(
        _BASE, kernel=_none, n_classes_=whole("C", "C"), base_estimator_=instance(_PROCESS),
    ),
    **_TREE_CLASSIFIERS,
    "sklearn.ensemble._forest.RandomForestClassifier": _FOREST,
    "sklearn.ensemble._forest.ExtraTreesClassifier": _FOREST,
    "sklearn.ensemble._weight_boosting.AdaBoostClassifier": AttributeRules(
        _ENSEMBLE, estimators_=listed(instance(_TREE_CLASSIFIERS)), estimator_weights_=array("weights"),
        estimator_errors_=_unused,
    ),
    "sklearn.ensemble._bagging.BaggingClassifier": AttributeRules(
        _ENSEMBLE, estimators_=listed(lambda *_: None), estimators_features_=listed(lambda *_: None), _seeds=_unused,
        _sample_weight=_unused, oob_decision_function_=_unused, also=part_rules.bagged(_TREE_CLASSIFIERS),
    ),
    "sklearn.ensemble._gb.GradientBoostingClassifier": AttributeRules(
        _BASE, n_classes_=whole("C", "C"), n_trees_per_iteration_=whole("L", "L"), learning_rate=number(),
        estimators_=part_rules.grid(_TREE_REGRESSORS), init=equal(None, "zero"),
        init_=either(equal("zero"), instance({"sklearn.dummy.DummyClassifier": _DUMMY})),
        _loss=part_rules.BOOSTING_LOSS,
        _rng=_seed, train_score_=_unused, oob_improvement_=_unused, oob_scores_=_unused,
    ),
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier": AttributeRules(
        _BASE, n_trees_per_iteration_=whole("L", "L"), _baseline_prediction=array(1, "L", kinds="<f8"),
        _predictors=listed(listed(instance(_BOOSTED_TREES), "L")), _bin_mapper=instance(_BINS), _preprocessor=_none,
        _label_encoder=optional(
            instance({"sklearn.preprocessing._label.LabelEncoder": AttributeRules(classes_=classes)})
        ),
        _loss=part_rules.BOOSTING_LOSS,
        _feature_subsample_rng=_seed, is_categorical_=_none, _in_fit=optional(equal(False)),
        train_score_=_unused, validation_score_=_unused,
    ),
    "sklearn.calibration.CalibratedClassifierCV": AttributeRules(
        _BASE, estimator=_none, calibrated_classifiers_=listed(instance(_CALIBRATED)),
    ),
}  # fmt: skip
