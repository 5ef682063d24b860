"""Estimators of scikit-learn that no job may name, each with the reason and what to use instead. Data only."""

_SEVERAL = "learns several targets at once, and a job has one target: train one job for each, with {}"
_CLUSTERS = "finds groups without a target, and a job learns a target: give the rows a label, or group them elsewhere"
_OUTLIERS = "finds outliers without a target, and a job learns a target: label some rows, and train a classifier"
_DENSITY = "describes rows without a target, and a job learns a target"
_FITTED_ROWS = "places only the rows that it was fitted on and cannot answer for another one"
_NUMBERS = "changes columns and answers nothing; a job's `preprocessing` does it: {}"
_REDUCES = "changes columns and answers nothing by itself; choose `features`, or an estimator that does without: {}"
_TEXTS = "takes documents or images, and a job's features are columns: make columns of them before ingest"
_GONE = "is deprecated by scikit-learn and gone in 1.10; the same is {}"

_LINEAR = "sklearn.linear_model.{}"
_GROUPS: tuple[tuple[str, str], ...] = (
    ("ClassifierChain MultiOutputClassifier", _SEVERAL.format("the classifier itself")),
    ("RegressorChain MultiOutputRegressor", _SEVERAL.format("the regressor itself")),
    ("MultiTaskElasticNet", _SEVERAL.format(_LINEAR.format("ElasticNet"))),
    ("MultiTaskElasticNetCV", _SEVERAL.format(_LINEAR.format("ElasticNetCV"))),
    ("MultiTaskLasso", _SEVERAL.format(_LINEAR.format("Lasso"))),
    ("MultiTaskLassoCV", _SEVERAL.format(_LINEAR.format("LassoCV"))),
    (
        "SelfTrainingClassifier",
        "learns from rows without a label, and a job leaves those out: name the classifier itself",
    ),
    (
        "PassiveAggressiveClassifier",
        _GONE.format('sklearn.linear_model.SGDClassifier with penalty null, learning_rate "pa1", eta0 1.0'),
    ),
    (
        "PassiveAggressiveRegressor",
        _GONE.format(
            'sklearn.linear_model.SGDRegressor with loss "epsilon_insensitive", penalty null, learning_rate "pa1", '
            "eta0 1.0"
        ),
    ),
    (
        """AffinityPropagation AgglomerativeClustering Birch BisectingKMeans DBSCAN FeatureAgglomeration HDBSCAN KMeans
        MeanShift MiniBatchKMeans OPTICS SpectralBiclustering SpectralClustering SpectralCoclustering""",
        _CLUSTERS,
    ),
    ("BayesianGaussianMixture GaussianMixture", _CLUSTERS),
    ("EllipticEnvelope IsolationForest LocalOutlierFactor OneClassSVM SGDOneClassSVM", _OUTLIERS),
    (
        """EmpiricalCovariance GraphicalLasso GraphicalLassoCV KernelDensity LedoitWolf MinCovDet NearestNeighbors OAS
        ShrunkCovariance""",
        _DENSITY,
    ),
    ("ClassicalMDS MDS SpectralEmbedding TSNE", _FITTED_ROWS),
    (
        """CountVectorizer DictVectorizer FeatureHasher HashingVectorizer PatchExtractor TfidfTransformer
        TfidfVectorizer""",
        _TEXTS,
    ),
    ("StandardScaler", _NUMBERS.format('"numeric": "impute_median_scale"')),
    ("MinMaxScaler", _NUMBERS.format('"numeric": "impute_median_unit"')),
    ("KBinsDiscretizer", _NUMBERS.format('"numeric": "impute_median_bins"')),
    ("SimpleImputer KNNImputer", _NUMBERS.format('"numeric": "impute_median"')),
    ("MissingIndicator", _NUMBERS.format('"add_indicator": true')),
    ("OneHotEncoder", _NUMBERS.format('"categories": "one_hot"')),
    ("OrdinalEncoder TargetEncoder", _NUMBERS.format('"categories": "ordinal"')),
    (
        "LabelBinarizer LabelEncoder MultiLabelBinarizer",
        _NUMBERS.format("a target of text, integers or booleans is encoded"),
    ),
    (
        "ColumnTransformer FeatureUnion FunctionTransformer Pipeline",
        _NUMBERS.format("the platform makes the pipeline of a job"),
    ),
    (
        "FrozenEstimator",
        "keeps an estimator from being fitted, and a job is there to fit one: name the estimator itself",
    ),
    (
        """Binarizer KernelCenterer MaxAbsScaler Normalizer PolynomialFeatures PowerTransformer QuantileTransformer
        RobustScaler SplineTransformer""",
        _REDUCES.format("trees need no scaling, and boosting finds curves and interactions"),
    ),
    (
        """DictionaryLearning FactorAnalysis FastICA IncrementalPCA KernelPCA LatentDirichletAllocation
        MiniBatchDictionaryLearning MiniBatchNMF MiniBatchSparsePCA NMF PCA SparseCoder SparsePCA TruncatedSVD PLSSVD
        GaussianRandomProjection SparseRandomProjection BernoulliRBM Isomap LocallyLinearEmbedding
        NeighborhoodComponentsAnalysis KNeighborsTransformer RadiusNeighborsTransformer RandomTreesEmbedding""",
        _REDUCES.format("sklearn.cross_decomposition.PLSRegression projects and answers"),
    ),
    (
        "AdditiveChi2Sampler Nystroem PolynomialCountSketch RBFSampler SkewedChi2Sampler",
        _REDUCES.format("sklearn.svm.SVC and SVR have kernels"),
    ),
    (
        """GenericUnivariateSelect RFE RFECV SelectFdr SelectFpr SelectFromModel SelectFwe SelectKBest SelectPercentile
        SequentialFeatureSelector VarianceThreshold""",
        _REDUCES.format("sklearn.linear_model.Lasso and LogisticRegression with an l1_ratio leave columns out"),
    ),
)

SKIPS = {name: reason for names, reason in _GROUPS for name in names.split()}
