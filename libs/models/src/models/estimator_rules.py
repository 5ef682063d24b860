"""Rules that the parameters of many estimators share. Data only: scikit-learn is not imported here."""

from models.parameters import Columns, Fraction, Nested, Real, Rules, Several, Whole, one_of

FLAG: Rules = (one_of(True, False),)
POSITIVE: Rules = (Real(0, 1e6, closed=False),)
NOT_NEGATIVE: Rules = (Real(0, 1e6),)
ANY: Rules = (Real(-1e6, 1e6),)
UNIT: Rules = (Real(0, 1),)
OPEN_UNIT: Rules = (Fraction(0, 0.99, closed=False),)
DEPTH: Rules = (Whole(1, 1000), one_of(None))
LEAVES: Rules = (Whole(2, 100_000), one_of(None))
ROUNDS: Rules = (Whole(1, 10_000),)
ITERATIONS: Rules = (Whole(1, 100_000),)
FOLDS: Rules = (Whole(2, 20), one_of(None))
BALANCED: Rules = (one_of("balanced", None),)
ONE: Rules = (Nested(),)
ONE_OR_NONE: Rules = (Nested(), one_of(None))
SOME: Rules = (Several(Nested()),)
WEIGHTS: Rules = (Several(Real(0, 1e6)), one_of(None))
ALPHAS: Rules = (Several(Real(0, 1e6, closed=False)),)

TREE: dict[str, Rules] = {
    "max_depth": DEPTH,
    "min_samples_split": (Whole(2, 10_000_000), Fraction(0, 1, closed=False)),
    "min_samples_leaf": (Whole(1, 10_000_000), *OPEN_UNIT),
    "min_weight_fraction_leaf": (Real(0, 0.5),),
    "max_features": (Whole(1, 100_000), Fraction(0, 1, closed=False), one_of("sqrt", "log2", None)),
    "max_leaf_nodes": LEAVES,
    "min_impurity_decrease": NOT_NEGATIVE,
    "ccp_alpha": NOT_NEGATIVE,
}
SPLITTER: dict[str, Rules] = {"splitter": (one_of("best", "random"),)}
GINI: dict[str, Rules] = {"criterion": (one_of("gini", "entropy", "log_loss"),), "class_weight": BALANCED}
ERROR: dict[str, Rules] = {"criterion": (one_of("squared_error", "absolute_error", "poisson"),)}
FOREST: dict[str, Rules] = TREE | {
    "n_estimators": ROUNDS,
    "bootstrap": FLAG,
    "max_samples": (Whole(1, 10_000_000), Fraction(0, 1, closed=False), one_of(None)),
}
HIST: dict[str, Rules] = {
    "learning_rate": POSITIVE,
    "max_iter": ROUNDS,
    "max_leaf_nodes": LEAVES,
    "max_depth": DEPTH,
    "min_samples_leaf": (Whole(1, 10_000_000),),
    "l2_regularization": NOT_NEGATIVE,
    "max_features": (Fraction(0, 1, closed=False),),
    "max_bins": (Whole(2, 255),),
    "categorical_features": (Columns(), one_of(None)),
    "early_stopping": (one_of("auto", True, False),),
    "validation_fraction": OPEN_UNIT,
    "n_iter_no_change": ROUNDS,
    "tol": NOT_NEGATIVE,
}
BOOSTING: dict[str, Rules] = TREE | {
    "learning_rate": NOT_NEGATIVE,
    "n_estimators": ROUNDS,
    "subsample": (Real(0, 1, closed=False),),
    "validation_fraction": OPEN_UNIT,
    "n_iter_no_change": (*ROUNDS, one_of(None)),
    "tol": NOT_NEGATIVE,
}
BAGGING: dict[str, Rules] = {
    "estimator": ONE_OR_NONE,
    "n_estimators": ROUNDS,
    "max_samples": (Whole(1, 10_000_000), Fraction(0, 1, closed=False), one_of(None)),
    "max_features": (Whole(1, 100_000), Fraction(0, 1, closed=False)),
    "bootstrap": FLAG,
    "bootstrap_features": FLAG,
}
ADABOOST: dict[str, Rules] = {"estimator": ONE_OR_NONE, "n_estimators": ROUNDS, "learning_rate": POSITIVE}
STACKING: dict[str, Rules] = {
    "estimators": SOME,
    "final_estimator": ONE_OR_NONE,
    "cv": FOLDS,
    "passthrough": FLAG,
}
LINEAR: dict[str, Rules] = {"fit_intercept": FLAG, "positive": FLAG, "tol": NOT_NEGATIVE}
SPARSE: dict[str, Rules] = LINEAR | {
    "alpha": NOT_NEGATIVE,
    "max_iter": ROUNDS,
    "selection": (one_of("cyclic", "random"),),
}
SPARSE_CV: dict[str, Rules] = LINEAR | {
    "eps": (Real(0, 1, closed=False),),
    "alphas": (Whole(1, 1000), *ALPHAS),
    "max_iter": ITERATIONS,
    "cv": FOLDS,
    "selection": (one_of("cyclic", "random"),),
}
NEURAL: dict[str, Rules] = {
    "hidden_layer_sizes": (Several(Whole(1, 4096)),),
    "activation": (one_of("relu", "tanh", "logistic", "identity"),),
    "solver": (one_of("adam", "sgd", "lbfgs"),),
    "alpha": NOT_NEGATIVE,
    "batch_size": (Whole(1, 1_000_000), one_of("auto")),
    "learning_rate": (one_of("constant", "invscaling", "adaptive"),),
    "learning_rate_init": POSITIVE,
    "max_iter": ROUNDS,
    "tol": NOT_NEGATIVE,
    "momentum": UNIT,
    "early_stopping": FLAG,
    "validation_fraction": OPEN_UNIT,
    "n_iter_no_change": ROUNDS,
}
SOLVERS = one_of("lbfgs", "newton-cg", "newton-cholesky", "sag", "saga", "liblinear")
LOGISTIC: dict[str, Rules] = {
    "C": POSITIVE,
    "l1_ratio": (*UNIT, one_of(None)),
    "fit_intercept": FLAG,
    "class_weight": BALANCED,
    "solver": (SOLVERS,),
    "max_iter": ROUNDS,
    "tol": NOT_NEGATIVE,
}
LOGISTIC_CV: dict[str, Rules] = {
    "Cs": (Whole(1, 100), *ALPHAS),
    "l1_ratios": (Several(Real(0, 1)),),
    "fit_intercept": FLAG,
    "class_weight": BALANCED,
    "solver": (SOLVERS,),
    "max_iter": ROUNDS,
    "tol": NOT_NEGATIVE,
    "cv": FOLDS,
    "scoring": (one_of("neg_log_loss", "accuracy", "balanced_accuracy", "roc_auc", "roc_auc_ovr", "f1_macro"),),
}
RIDGE: dict[str, Rules] = LINEAR | {"alpha": NOT_NEGATIVE, "max_iter": (*ROUNDS, one_of(None))}
RIDGE_CV: dict[str, Rules] = {"alphas": ALPHAS, "fit_intercept": FLAG, "cv": FOLDS}
STOCHASTIC: dict[str, Rules] = {
    "penalty": (one_of("l2", "l1", "elasticnet", None),),
    "alpha": NOT_NEGATIVE,
    "fit_intercept": FLAG,
    "max_iter": ROUNDS,
    "tol": (*NOT_NEGATIVE, one_of(None)),
    "shuffle": FLAG,
    "eta0": POSITIVE,
    "early_stopping": FLAG,
    "validation_fraction": OPEN_UNIT,
    "n_iter_no_change": ROUNDS,
}
GRADIENT: dict[str, Rules] = STOCHASTIC | {
    "l1_ratio": UNIT,
    "epsilon": NOT_NEGATIVE,
    "learning_rate": (one_of("optimal", "constant", "invscaling", "adaptive", "pa1", "pa2"),),
    "power_t": (Real(0, 10),),
    "average": (one_of(True, False), Whole(1, 10_000_000)),
}
SUPPORT: dict[str, Rules] = {
    # Not `precomputed`: a job's features are columns, not distances between rows.
    "kernel": (one_of("rbf", "linear", "poly", "sigmoid"),),
    "degree": (Whole(0, 20),),
    "gamma": (one_of("scale", "auto"), Real(0, 1e6)),
    "coef0": ANY,
    "tol": POSITIVE,
    "shrinking": FLAG,
    "max_iter": (Whole(-1, 10_000_000),),
}
NEIGHBOURS: dict[str, Rules] = {
    "weights": (one_of("uniform", "distance"),),
    "p": (Real(1, 100),),
    "metric": (one_of("minkowski", "euclidean", "manhattan", "chebyshev", "cosine"),),
}
LABELS: dict[str, Rules] = {
    "kernel": (one_of("rbf", "knn"),),
    "gamma": NOT_NEGATIVE,
    "n_neighbors": (Whole(1, 1000),),
    "max_iter": ROUNDS,
    "tol": NOT_NEGATIVE,
}
BAYES: dict[str, Rules] = {"alpha": NOT_NEGATIVE, "fit_prior": FLAG}
BAYESIAN: dict[str, Rules] = {
    "max_iter": ROUNDS,
    "tol": POSITIVE,
    "alpha_1": NOT_NEGATIVE,
    "alpha_2": NOT_NEGATIVE,
    "lambda_1": NOT_NEGATIVE,
    "lambda_2": NOT_NEGATIVE,
    "fit_intercept": FLAG,
}
ANGLES: dict[str, Rules] = {"fit_intercept": FLAG, "eps": (Real(0, 1),)}
GENERAL: dict[str, Rules] = {
    "alpha": NOT_NEGATIVE,
    "fit_intercept": FLAG,
    "solver": (one_of("lbfgs", "newton-cholesky"),),
    "max_iter": ROUNDS,
    "tol": POSITIVE,
}
PARTIAL: dict[str, Rules] = {
    "n_components": (Whole(1, 10_000),),
    "scale": FLAG,
    "max_iter": ITERATIONS,
    "tol": NOT_NEGATIVE,
}
PROCESS: dict[str, Rules] = {"n_restarts_optimizer": (Whole(0, 20),)}
