"""Makes the fleet's search attributes known to a namespace."""

from __future__ import annotations

from datetime import timedelta

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey

from qefleet.contracts import attributes

_RPC_TIMEOUT = timedelta(seconds=10)


async def register_search_attributes(client: Client) -> list[str]:
    """Register those that are missing; those that are there stay as they are.

    Returns:
        The names of those that were missing.

    Raises:
        RPCError: The server doesn't allow it, or can't be reached.
    """
    service = client.operator_service
    known = await service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace), timeout=_RPC_TIMEOUT
    )
    missing = {key.name: _type(key) for key in attributes.ALL if key.name not in known.custom_attributes}
    if missing:
        await service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing),
            timeout=_RPC_TIMEOUT,
        )
    return list(missing)


def _type(key: SearchAttributeKey[str] | SearchAttributeKey[float]) -> IndexedValueType.ValueType:
    return IndexedValueType.ValueType(int(key.indexed_value_type))
