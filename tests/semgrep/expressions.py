def asked(call, tenant, own, sets):
    # ruleid: value-in-an-expression
    call(KeyConditionExpression=f"pk = {tenant}")
    # ruleid: value-in-an-expression
    call({"FilterExpression": f"#age BETWEEN {own} AND :last"})
    # ruleid: value-in-an-expression
    call(ConditionExpression=f"#owner = '{tenant}'")
    # ruleid: value-in-an-expression
    call(condition=f"#owner = {tenant}")
    # ok: value-in-an-expression
    call(condition=f"attribute_not_exists(#{own}) OR #{own} < :{own}")
    # ok: value-in-an-expression
    call(ConditionExpression=f"#{own}[0] <= :requests AND ({sets})")
    # ok: value-in-an-expression
    call(UpdateExpression=f"SET {sets}", ExpressionAttributeValues={f":{own}": tenant})
