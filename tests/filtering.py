"""What a filter means, in plain Python, and made-up filters and metadata to hold stores to it."""

from hypothesis import strategies as st

KEYS = ["a", "b", "年份", "with space", "nest.x", "nest.y.z"]
texts = st.sampled_from(["", "x", "y", "中", "true", "1"])
integers = st.one_of(
    st.integers(-3, 3), st.sampled_from([2**53 + 1, 2**60, 2**60 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)])
)
floats = st.sampled_from([0.5, -0.5, -1.5, 1.0, 2.0**53, -(2.0**53), 2.0**63, 1e300, -1e300])
scalars = st.one_of(texts, st.booleans(), integers, floats)
values = st.one_of(scalars, st.none(), st.lists(scalars, max_size=3))
metadatas = st.fixed_dictionaries(
    {},
    optional={
        "a": values,
        "b": values,
        "年份": values,
        "with space": values,
        "nest.x": values,
        "nest": st.fixed_dictionaries(
            {}, optional={"x": values, "y": st.fixed_dictionaries({}, optional={"z": values})}
        ),
    },
)
bounds = st.one_of(integers, floats)
conditions = st.one_of(
    scalars,
    st.dictionaries(st.sampled_from(["$eq", "$ne", "$contains"]), scalars, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), bounds, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["$in", "$nin"]), st.lists(scalars, max_size=3), min_size=1, max_size=2),
    st.fixed_dictionaries({"$exists": st.booleans()}),
)
filters = st.recursive(
    st.dictionaries(st.sampled_from(KEYS), conditions, max_size=2),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$not": inner}),
    ),
    max_leaves=4,
)


def matches(wanted: dict, metadata: dict) -> bool:
    """Whether metadata meets a filter."""
    return all(_holds(key, value, metadata) for key, value in wanted.items())


def _holds(key: str, wanted: object, metadata: dict) -> bool:
    if key == "$and":
        return all(matches(part, metadata) for part in wanted)
    if key == "$or":
        return any(matches(part, metadata) for part in wanted)
    if key == "$not":
        return not matches(wanted, metadata)
    items = _items(key, metadata)
    if not isinstance(wanted, dict):
        wanted = {"$eq": wanted}
    return all(_condition(operator, operand, items) for operator, operand in wanted.items())


def _items(key: str, metadata: dict) -> list:
    value: object = metadata
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    both = [value] if "." not in key else [value, metadata.get(key)]  # a name may have dots in it
    items = [item for one in both for item in (one if isinstance(one, list) else [one])]
    return [item for item in items if item is not None]


def _condition(operator: str, operand: object, items: list) -> bool:
    match operator:
        case "$eq" | "$contains":
            return any(_same(item, operand) for item in items)
        case "$in":
            return any(_same(item, one) for item in items for one in operand)
        case "$ne":
            return not _condition("$eq", operand, items)
        case "$nin":
            return not _condition("$in", operand, items)
        case "$exists":
            return bool(items) == operand
    bound = float(operand)
    compare = {
        "$gt": lambda a: a > bound,
        "$gte": lambda a: a >= bound,
        "$lt": lambda a: a < bound,
        "$lte": lambda a: a <= bound,
    }[operator]
    return any(compare(float(item)) for item in items if isinstance(item, int | float) and not isinstance(item, bool))


def _same(a: object, b: object) -> bool:
    if isinstance(a, bool) or isinstance(b, bool) or isinstance(a, str) or isinstance(b, str):
        return type(a) is type(b) and a == b
    return a == b if isinstance(b, int) and abs(b) > 2**53 else float(a) == float(b)
