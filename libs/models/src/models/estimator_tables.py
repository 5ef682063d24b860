"""Every estimator that a job may name, with its rules. Data only: scikit-learn is not imported here.

Not in the tables, and why: `random_state` is the job's seed; `n_jobs` would make digests and last bits depend on the
number of threads; `warm_start`, `verbose` and callables have no meaning in a job; `algorithm` of neighbours, whose
trees are compiled objects that believe whatever a file says of their own indices: loading one is not safe.
Estimators that are not here are in `models.estimator_skips`, each with its reason.
"""

from collections.abc import Iterator

from models import estimator_rules as rules
from models.estimator_kinds import BINS, NATIVE, PLAIN, SHARES, EstimatorKind
from models.parameters import Grid, Real, Several, Whole, one_of

LABEL, NUMBER = "classification", "regression"
SQUARE = 5_000  # rows of which a matrix of all by all, and a few copies of it, fit in a gigabyte
KERNEL = 50_000  # rows after which a kernel machine takes hours
STORED = 200_000  # rows that a model which is its own training data may hold and look through for each answer


def _trees() -> Iterator[EstimatorKind]:
    ensemble, tree = "sklearn.ensemble", "sklearn.tree"
    losses = one_of("squared_error", "absolute_error", "gamma", "poisson", "quantile")
    hist = {"quantile": (*rules.UNIT, one_of(None)), "loss": (losses,)}
    gradient = {
        "loss": (one_of("squared_error", "absolute_error", "huber", "quantile"),),
        "alpha": rules.OPEN_UNIT,
    }
    for side, task, impurity in (("Classifier", LABEL, rules.GINI), ("Regressor", NUMBER, rules.ERROR)):
        boosting = rules.HIST | ({"class_weight": rules.BALANCED} if task == LABEL else hist)
        yield EstimatorKind(f"{ensemble}.HistGradientBoosting{side}", task, boosting, NATIVE, takes_missing=True)
        for name in ("RandomForest", "ExtraTrees"):
            parameters = rules.FOREST | impurity
            yield EstimatorKind(f"{ensemble}.{name}{side}", task, parameters, PLAIN, takes_missing=True)
        loss = {"loss": (one_of("log_loss", "exponential"),)} if task == LABEL else gradient
        yield EstimatorKind(f"{ensemble}.GradientBoosting{side}", task, rules.BOOSTING | loss, PLAIN)
        for name in ("DecisionTree", "ExtraTree"):
            parameters = rules.TREE | rules.SPLITTER | impurity
            yield EstimatorKind(f"{tree}.{name}{side}", task, parameters, PLAIN, takes_missing=True)
        yield EstimatorKind(f"{ensemble}.Bagging{side}", task, rules.BAGGING, PLAIN, takes_missing=True)
        loss = {} if task == LABEL else {"loss": (one_of("linear", "square", "exponential"),)}
        yield EstimatorKind(f"{ensemble}.AdaBoost{side}", task, rules.ADABOOST | loss, PLAIN)


def _linear_classifiers() -> Iterator[EstimatorKind]:
    linear = "sklearn.linear_model"
    yield EstimatorKind(f"{linear}.LogisticRegression", LABEL, rules.LOGISTIC)
    # As scikit-learn 1.10 and 1.11 will have it by themselves; today's defaults are announced to go.
    announced = {"l1_ratios": [0.0], "scoring": "neg_log_loss", "use_legacy_attributes": False}
    yield EstimatorKind(f"{linear}.LogisticRegressionCV", LABEL, rules.LOGISTIC_CV, defaults=announced)
    balanced = {"class_weight": rules.BALANCED}
    losses = one_of("hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron", "squared_error", "huber")
    yield EstimatorKind(f"{linear}.SGDClassifier", LABEL, rules.GRADIENT | balanced | {"loss": (losses,)})
    yield EstimatorKind(f"{linear}.Perceptron", LABEL, rules.STOCHASTIC | balanced | {"l1_ratio": rules.UNIT})
    yield EstimatorKind(f"{linear}.RidgeClassifier", LABEL, rules.RIDGE | balanced)
    yield EstimatorKind(f"{linear}.RidgeClassifierCV", LABEL, rules.RIDGE_CV | balanced, seeded=False)
    margins = {
        "penalty": (one_of("l1", "l2"),),
        "loss": (one_of("hinge", "squared_hinge"),),
        "C": rules.POSITIVE,
        "tol": rules.POSITIVE,
        "max_iter": rules.ITERATIONS,
        "fit_intercept": rules.FLAG,
    }
    yield EstimatorKind("sklearn.svm.LinearSVC", LABEL, margins | balanced)
    shrinkage = (*rules.UNIT, one_of("auto", None))
    linear_solvers = {"solver": (one_of("svd", "lsqr", "eigen"),), "shrinkage": shrinkage, "tol": rules.NOT_NEGATIVE}
    yield EstimatorKind("sklearn.discriminant_analysis.LinearDiscriminantAnalysis", LABEL, linear_solvers, seeded=False)
    quadratic = {
        "solver": (one_of("svd", "eigen"),),
        "shrinkage": shrinkage,
        "reg_param": rules.UNIT,
        "tol": rules.NOT_NEGATIVE,
    }
    # One column a category is a matrix that cannot be inverted; a little of the identity makes it one that can.
    yield EstimatorKind(
        "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis",
        LABEL,
        quadratic,
        seeded=False,
        defaults={"reg_param": 0.01},
    )


def _other_classifiers() -> Iterator[EstimatorKind]:
    bayes = "sklearn.naive_bayes"
    yield EstimatorKind(f"{bayes}.GaussianNB", LABEL, {"var_smoothing": rules.UNIT}, seeded=False)
    binary = rules.BAYES | {"binarize": rules.NOT_NEGATIVE}
    yield EstimatorKind(f"{bayes}.BernoulliNB", LABEL, binary, seeded=False)
    for name, more in (("MultinomialNB", {}), ("ComplementNB", {"norm": rules.FLAG})):
        yield EstimatorKind(f"{bayes}.{name}", LABEL, rules.BAYES | more, SHARES, seeded=False)
    yield EstimatorKind(f"{bayes}.CategoricalNB", LABEL, rules.BAYES, BINS, seeded=False, numeric=(BINS.numeric,))
    yield EstimatorKind("sklearn.neural_network.MLPClassifier", LABEL, rules.NEURAL)
    balanced = {"class_weight": rules.BALANCED}
    chosen = rules.SUPPORT | balanced
    yield EstimatorKind("sklearn.svm.SVC", LABEL, chosen | {"C": rules.POSITIVE}, max_rows=KERNEL)
    share = {"nu": (Real(0, 1, closed=False),)}
    yield EstimatorKind("sklearn.svm.NuSVC", LABEL, chosen | share, max_rows=KERNEL)
    centroid = {
        "metric": (one_of("euclidean", "manhattan"),),
        "shrink_threshold": (*rules.POSITIVE, one_of(None)),
        "priors": (one_of("uniform", "empirical"),),
    }
    yield EstimatorKind("sklearn.neighbors.NearestCentroid", LABEL, centroid, seeded=False)
    process = rules.PROCESS | {"max_iter_predict": rules.ROUNDS, "multi_class": (one_of("one_vs_rest", "one_vs_one"),)}
    yield EstimatorKind("sklearn.gaussian_process.GaussianProcessClassifier", LABEL, process, max_rows=SQUARE)
    for name in ("LabelPropagation", "LabelSpreading"):
        more = {"alpha": (Real(0.001, 0.999),)} if name == "LabelSpreading" else {}
        yield EstimatorKind(
            f"sklearn.semi_supervised.{name}",
            LABEL,
            rules.LABELS | more,
            seeded=False,
            max_rows=SQUARE,
            takes_minus_one=False,
        )
    # `stratified` and `uniform` draw their answers: the same question has another one each time.
    strategies = {"strategy": (one_of("prior", "most_frequent"),)}
    yield EstimatorKind("sklearn.dummy.DummyClassifier", LABEL, strategies)


def _neighbours() -> Iterator[EstimatorKind]:
    for side, task in (("Classifier", LABEL), ("Regressor", NUMBER)):
        brute = {"algorithm": "brute"}
        count = {"n_neighbors": (Whole(1, 1000),)}
        yield EstimatorKind(
            f"sklearn.neighbors.KNeighbors{side}",
            task,
            rules.NEIGHBOURS | count,
            seeded=False,
            defaults=brute,
            max_rows=STORED,
        )
        radius = {"radius": rules.POSITIVE}
        # Without this a row that has no neighbour is an error, also when it is asked about years later.
        alone = {"outlier_label": "most_frequent"} if task == LABEL else {}
        yield EstimatorKind(
            f"sklearn.neighbors.RadiusNeighbors{side}",
            task,
            rules.NEIGHBOURS | radius,
            seeded=False,
            defaults=brute | alone,
            max_rows=STORED,
        )


def _linear_regressors() -> Iterator[EstimatorKind]:
    linear = "sklearn.linear_model"
    yield EstimatorKind(f"{linear}.LinearRegression", NUMBER, rules.LINEAR, seeded=False)
    yield EstimatorKind(f"{linear}.Ridge", NUMBER, rules.RIDGE)
    yield EstimatorKind(f"{linear}.RidgeCV", NUMBER, rules.RIDGE_CV, seeded=False)
    yield EstimatorKind(f"{linear}.Lasso", NUMBER, rules.SPARSE)
    yield EstimatorKind(f"{linear}.LassoCV", NUMBER, rules.SPARSE_CV)
    yield EstimatorKind(f"{linear}.ElasticNet", NUMBER, rules.SPARSE | {"l1_ratio": rules.UNIT})
    ratios = {"l1_ratio": (*rules.UNIT, Several(Real(0, 1)))}
    yield EstimatorKind(f"{linear}.ElasticNetCV", NUMBER, rules.SPARSE_CV | ratios)
    bayesian = {"alpha_init": (*rules.NOT_NEGATIVE, one_of(None)), "lambda_init": (*rules.NOT_NEGATIVE, one_of(None))}
    yield EstimatorKind(f"{linear}.BayesianRidge", NUMBER, rules.BAYESIAN | bayesian, seeded=False)
    relevance = rules.BAYESIAN | {"threshold_lambda": (Real(0, 1e12),)}
    yield EstimatorKind(f"{linear}.ARDRegression", NUMBER, relevance, seeded=False)
    angles = rules.ANGLES | {"max_iter": rules.ITERATIONS}
    few = rules.ANGLES | {"n_nonzero_coefs": rules.ITERATIONS}
    yield EstimatorKind(f"{linear}.Lars", NUMBER, few)
    path = angles | {"cv": rules.FOLDS, "max_n_alphas": rules.ITERATIONS}
    yield EstimatorKind(f"{linear}.LarsCV", NUMBER, path, seeded=False)
    yield EstimatorKind(f"{linear}.LassoLars", NUMBER, angles | {"alpha": rules.NOT_NEGATIVE, "positive": rules.FLAG})
    yield EstimatorKind(f"{linear}.LassoLarsCV", NUMBER, path | {"positive": rules.FLAG}, seeded=False)
    criterion = {"criterion": (one_of("aic", "bic"),), "positive": rules.FLAG}
    yield EstimatorKind(f"{linear}.LassoLarsIC", NUMBER, angles | criterion, seeded=False)
    pursuit = {
        "n_nonzero_coefs": (*rules.ITERATIONS, one_of(None)),
        "tol": (*rules.NOT_NEGATIVE, one_of(None)),
        "fit_intercept": rules.FLAG,
    }
    yield EstimatorKind(f"{linear}.OrthogonalMatchingPursuit", NUMBER, pursuit, seeded=False)
    pursuit = {"max_iter": (*rules.ROUNDS, one_of(None)), "cv": rules.FOLDS, "fit_intercept": rules.FLAG}
    yield EstimatorKind(f"{linear}.OrthogonalMatchingPursuitCV", NUMBER, pursuit, seeded=False)


def _robust_regressors() -> Iterator[EstimatorKind]:
    linear = "sklearn.linear_model"
    for name in ("PoissonRegressor", "GammaRegressor"):
        yield EstimatorKind(f"{linear}.{name}", NUMBER, rules.GENERAL, seeded=False)
    tweedie = rules.GENERAL | {"power": (Real(-10, 10),), "link": (one_of("auto", "identity", "log"),)}
    yield EstimatorKind(f"{linear}.TweedieRegressor", NUMBER, tweedie, seeded=False)
    losses = (one_of("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"),)
    yield EstimatorKind(f"{linear}.SGDRegressor", NUMBER, rules.GRADIENT | {"loss": losses})
    huber = {
        "epsilon": (Real(1, 1e6),),
        "max_iter": rules.ROUNDS,
        "alpha": rules.NOT_NEGATIVE,
        "fit_intercept": rules.FLAG,
        "tol": rules.NOT_NEGATIVE,
    }
    yield EstimatorKind(f"{linear}.HuberRegressor", NUMBER, huber, seeded=False)
    # A linear program with a variable for each row.
    quantile = {
        "quantile": (Real(0.001, 0.999),),
        "alpha": rules.NOT_NEGATIVE,
        "fit_intercept": rules.FLAG,
        "solver": (one_of("highs", "highs-ds", "highs-ipm"),),
    }
    yield EstimatorKind(f"{linear}.QuantileRegressor", NUMBER, quantile, seeded=False, max_rows=KERNEL)
    subsets = {
        "max_subpopulation": (Real(1, 1e6),),
        "fit_intercept": rules.FLAG,
        "max_iter": rules.ROUNDS,
        "tol": rules.NOT_NEGATIVE,
    }
    yield EstimatorKind(f"{linear}.TheilSenRegressor", NUMBER, subsets)
    consensus = {
        "estimator": rules.ONE_OR_NONE,
        "min_samples": (Whole(1, 10_000_000), *rules.OPEN_UNIT, one_of(None)),
        "residual_threshold": (*rules.NOT_NEGATIVE, one_of(None)),
        "max_trials": rules.ROUNDS,
        "stop_probability": rules.UNIT,
        "loss": (one_of("absolute_error", "squared_error"),),
    }
    yield EstimatorKind(f"{linear}.RANSACRegressor", NUMBER, consensus)


def _other_regressors() -> Iterator[EstimatorKind]:
    yield EstimatorKind("sklearn.neural_network.MLPRegressor", NUMBER, rules.NEURAL)
    tube = {"C": rules.POSITIVE, "epsilon": rules.NOT_NEGATIVE}
    yield EstimatorKind("sklearn.svm.SVR", NUMBER, rules.SUPPORT | tube, seeded=False, max_rows=KERNEL)
    share = {"C": rules.POSITIVE, "nu": (Real(0, 1, closed=False),)}
    yield EstimatorKind("sklearn.svm.NuSVR", NUMBER, rules.SUPPORT | share, seeded=False, max_rows=KERNEL)
    linear = {
        "epsilon": rules.NOT_NEGATIVE,
        "C": rules.POSITIVE,
        "loss": (one_of("epsilon_insensitive", "squared_epsilon_insensitive"),),
        "tol": rules.POSITIVE,
        "max_iter": rules.ITERATIONS,
        "fit_intercept": rules.FLAG,
    }
    yield EstimatorKind("sklearn.svm.LinearSVR", NUMBER, linear)
    kernel = {
        "alpha": rules.NOT_NEGATIVE,
        "kernel": (one_of("linear", "rbf", "poly", "laplacian", "sigmoid", "cosine"),),
        "gamma": (*rules.NOT_NEGATIVE, one_of(None)),
        "degree": (Real(0, 20),),
        "coef0": rules.ANY,
    }
    yield EstimatorKind("sklearn.kernel_ridge.KernelRidge", NUMBER, kernel, seeded=False, max_rows=SQUARE)
    process = rules.PROCESS | {"alpha": rules.NOT_NEGATIVE, "normalize_y": rules.FLAG}
    yield EstimatorKind("sklearn.gaussian_process.GaussianProcessRegressor", NUMBER, process, max_rows=SQUARE)
    for name in ("PLSRegression", "PLSCanonical", "CCA"):
        # A job has one target, and so at most one component of the two that go by both sides.
        one = {} if name == "PLSRegression" else {"n_components": (Whole(1, 1),)}
        defaults = {} if name == "PLSRegression" else {"n_components": 1}
        path = f"sklearn.cross_decomposition.{name}"
        yield EstimatorKind(path, NUMBER, rules.PARTIAL | one, seeded=False, defaults=defaults)
    isotonic = {"increasing": (one_of(True, False, "auto"),), "y_min": (*rules.ANY, one_of(None))}
    isotonic["y_max"] = isotonic["y_min"]
    # Not `nan`, which is scikit-learn's: what lies outside of the training rows would have no answer.
    yield EstimatorKind(
        "sklearn.isotonic.IsotonicRegression",
        NUMBER,
        isotonic | {"out_of_bounds": (one_of("clip"),)},
        PLAIN,
        seeded=False,
        defaults={"out_of_bounds": "clip"},
    )
    strategies = {"strategy": (one_of("mean", "median", "quantile"),), "quantile": (*rules.UNIT, one_of(None))}
    yield EstimatorKind("sklearn.dummy.DummyRegressor", NUMBER, strategies, seeded=False)


def _of_others() -> Iterator[EstimatorKind]:
    """Estimators that are made of others. What is missing is taken where all that are in it take it."""
    for side, task in (("Classifier", LABEL), ("Regressor", NUMBER)):
        voting = {"estimators": rules.SOME, "weights": rules.WEIGHTS}
        stacking = rules.STACKING
        if task == LABEL:
            voting |= {"voting": (one_of("hard", "soft"),)}
            stacking = stacking | {"stack_method": (one_of("auto", "predict_proba", "decision_function", "predict"),)}
        yield EstimatorKind(
            f"sklearn.ensemble.Voting{side}", task, voting, takes_missing=True, seeded=False, required=("estimators",)
        )
        yield EstimatorKind(
            f"sklearn.ensemble.Stacking{side}",
            task,
            stacking,
            takes_missing=True,
            seeded=False,
            required=("estimators",),
        )
    several = "sklearn.multiclass"
    for name, more, seeded in (
        ("OneVsRestClassifier", {}, False),
        ("OneVsOneClassifier", {}, False),
        ("OutputCodeClassifier", {"code_size": (Real(0, 100, closed=False),)}, True),
    ):
        one = {"estimator": rules.ONE} | more
        yield EstimatorKind(f"{several}.{name}", LABEL, one, seeded=seeded, required=("estimator",))
    calibration = {
        "estimator": rules.ONE_OR_NONE,
        "method": (one_of("sigmoid", "isotonic", "temperature"),),
        "cv": rules.FOLDS,
        "ensemble": (one_of("auto", True, False),),
    }
    yield EstimatorKind(
        "sklearn.calibration.CalibratedClassifierCV", LABEL, calibration, takes_missing=True, seeded=False
    )
    selection = "sklearn.model_selection"
    scores = (one_of("balanced_accuracy", "accuracy", "f1", "jaccard"),)
    tuned = {"estimator": rules.ONE, "scoring": scores, "thresholds": (Whole(2, 10_000),), "cv": rules.FOLDS}
    yield EstimatorKind(f"{selection}.TunedThresholdClassifierCV", LABEL, tuned, required=("estimator",))
    fixed = {"estimator": rules.ONE, "threshold": (Real(-1e6, 1e6), one_of("auto"))}
    yield EstimatorKind(f"{selection}.FixedThresholdClassifier", LABEL, fixed, seeded=False, required=("estimator",))
    yield EstimatorKind(
        "sklearn.compose.TransformedTargetRegressor", NUMBER, {"regressor": rules.ONE_OR_NONE}, seeded=False
    )


def _searches() -> Iterator[EstimatorKind]:
    selection = "sklearn.model_selection"
    scoring = one_of(
        *("accuracy", "balanced_accuracy", "roc_auc", "roc_auc_ovr", "average_precision", "f1_macro", "neg_log_loss"),
        *("r2", "neg_root_mean_squared_error", "neg_mean_absolute_error", "neg_median_absolute_error", None),
    )
    search = {"estimator": rules.ONE, "cv": rules.FOLDS, "scoring": (scoring,)}
    grid = search | {"param_grid": (Grid(),)}
    drawn = search | {"param_distributions": (Grid(),), "n_iter": (Whole(1, 200),)}
    for name, parameters, needed in (
        ("GridSearchCV", grid, "param_grid"),
        ("RandomizedSearchCV", drawn, "param_distributions"),
    ):
        yield EstimatorKind(
            f"{selection}.{name}",
            "",
            parameters,
            takes_missing=True,
            seeded=name == "RandomizedSearchCV",
            required=("estimator", needed),
        )


def _table() -> dict[str, EstimatorKind]:
    parts = (
        *(_trees(), _linear_classifiers(), _other_classifiers(), _neighbours(), _linear_regressors()),
        *(_robust_regressors(), _other_regressors(), _of_others(), _searches()),
    )
    return {kind.path: kind for part in parts for kind in part}


ESTIMATORS = _table()
