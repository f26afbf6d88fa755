"""Expressions name every attribute by a placeholder, and every value too."""

from __future__ import annotations

from inferline.aws.api.items import to_item
from inferline.aws.dynamodb.expressions import CopyOf, IfAbsent, conditional, querying, updating


def test_an_update_names_its_attributes_and_values() -> None:
    request = updating(
        {"ttl": 5, "since_ms": IfAbsent(7), "before": CopyOf("open", 1)},
        {"count": 2},
        ("gone",),
        "#owner = :holder AND #ttl < :ttl",
        {"holder": "p1"},
    )

    assert {
        "UpdateExpression": "SET #ttl = :ttl, #since_ms = if_not_exists(#since_ms, :since_ms), "
        "#before = #open + :before ADD #count :count REMOVE #gone",
        "ConditionExpression": "#owner = :holder AND #ttl < :ttl",
        "ExpressionAttributeNames": {
            f"#{name}": name
            for name in ("ttl", "since_ms", "before", "open", "count", "gone", "owner")
        },
        "ExpressionAttributeValues": to_item(
            {":ttl": 5, ":since_ms": 7, ":before": 1, ":count": 2, ":holder": "p1"}
        ),
    } == request


def test_attributes_whose_names_are_no_words_get_numbers() -> None:
    request = updating({}, {"n": 1, "e:not_found": 2, "first:8": 3}, (), "", {})

    assert {
        "UpdateExpression": "ADD #n :n, #1 :1, #2 :2",
        "ExpressionAttributeNames": {"#n": "n", "#1": "e:not_found", "#2": "first:8"},
        "ExpressionAttributeValues": to_item({":n": 1, ":1": 2, ":2": 3}),
    } == request


def test_no_mapping_is_empty_which_dynamodb_refuses() -> None:
    assert {} == conditional("")
    assert {"ConditionExpression": "attribute_exists(pk)"} == conditional("attribute_exists(pk)")
    assert "ExpressionAttributeValues" not in updating({}, {}, ("gone",), "", {})


def test_an_update_of_one_shape_has_its_own_values() -> None:
    first, second = (updating({"n": number}, {}, (), "", {}) for number in (1, 2))

    assert first["UpdateExpression"] == second["UpdateExpression"]
    assert [{":n": {"N": "1"}}, {":n": {"N": "2"}}] == [
        request["ExpressionAttributeValues"] for request in (first, second)
    ]


def test_a_query_reads_a_partition_or_a_range_of_it() -> None:
    conditions = [
        querying("p", *keys)["KeyConditionExpression"] for keys in ((), ("a",), ("a", "b"))
    ]

    assert [
        "pk = :pk",
        "pk = :pk AND sk >= :first",
        "pk = :pk AND sk BETWEEN :first AND :last",
    ] == conditions
