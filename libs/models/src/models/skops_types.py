"""Which types a skops file of this platform may hold. Adding one is a decision about what loading a file can do."""

# What skops itself does not trust. `functools.partial` and `check_array` are how gradient boosting with
# `categorical_features` keeps its input conversion: a partial calls only what is in this list too.
TRUSTED = [
    "functools.partial",
    "models.timestamps.TimestampParts",
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
]

LOADERS = frozenset(
    f"{kind}Node"
    for kind in (
        *("DType", "Dict", "Function", "Json", "List", "Loss", "NdArray", "Object", "Partial"),
        *("RandomGenerator", "RandomState", "Slice", "Tree", "Tuple", "Type"),
    )
)

_NAMES = {
    "builtins": "bool dict int list slice str tuple",
    "numpy": "bool float32 float64 int64 ndarray object_ uint64 uint8",
    "numpy.random._generator": "Generator",
    "numpy.random.mtrand": "RandomState",
    "sklearn._loss._loss": """CyAbsoluteError CyExponentialLoss CyHalfBinomialLoss CyHalfGammaLoss
        CyHalfMultinomialLoss CyHalfPoissonLoss CyHalfSquaredError CyHuberLoss CyPinballLoss""",
    "sklearn._loss.link": "HalfLogitLink IdentityLink Interval LogLink LogitLink MultinomialLogit",
    "sklearn._loss.loss": """AbsoluteError ExponentialLoss HalfBinomialLoss HalfGammaLoss HalfMultinomialLoss
        HalfPoissonLoss HalfSquaredError HuberLoss PinballLoss""",
    "sklearn.compose._column_transformer": "ColumnTransformer",
    "sklearn.dummy": "DummyClassifier DummyRegressor",
    "sklearn.ensemble._forest": """ExtraTreesClassifier ExtraTreesRegressor RandomForestClassifier
        RandomForestRegressor""",
    "sklearn.ensemble._gb": "GradientBoostingClassifier GradientBoostingRegressor",
    "sklearn.ensemble._hist_gradient_boosting.binning": "_BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": """HistGradientBoostingClassifier
        HistGradientBoostingRegressor""",
    "sklearn.impute._base": "MissingIndicator SimpleImputer",
    "sklearn.linear_model._base": "LinearRegression",
    "sklearn.linear_model._coordinate_descent": "ElasticNet Lasso",
    "sklearn.linear_model._logistic": "LogisticRegression",
    "sklearn.linear_model._ridge": "Ridge",
    "sklearn.neural_network._multilayer_perceptron": "MLPClassifier MLPRegressor",
    "sklearn.pipeline": "Pipeline",
    "sklearn.preprocessing._data": "StandardScaler",
    "sklearn.preprocessing._encoders": "OneHotEncoder OrdinalEncoder",
    "sklearn.preprocessing._function_transformer": "FunctionTransformer",
    "sklearn.preprocessing._label": "LabelBinarizer LabelEncoder",
    "sklearn.tree._classes": """DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier
        ExtraTreeRegressor""",
}

TYPES = frozenset(TRUSTED) | {f"{module}.{name}" for module, names in _NAMES.items() for name in names.split()}
