from vault_core.money import Money


async def test_a_receipt_the_gateway_refuses_once_is_sent_later_and_charged_once(umoja):
    await umoja.control("faults", {"sms_refused": {"rate": 1.0, "per_unit": 1}})
    await umoja.pay("R1", 100_00, "000000011")
    await umoja.work()
    await umoja.work("message.send")
    assert (await umoja.texts(), await umoja.balance("wallet")) == ([], Money(0))

    umoja.runtime.clock.pass_time(hours=1)
    await umoja.work("message.send")

    assert len(await umoja.texts()) == 1
    assert await umoja.balance("wallet") == Money(-80)
    assert await umoja.cases() == []


async def test_a_receipt_whose_answer_is_lost_is_not_sent_again_and_not_charged_until_it_is_resolved(umoja):
    await umoja.control("settings", {"hang_ms": 50})
    await umoja.control("faults", {"sms_timed_out_after_sending": {"rate": 1.0, "per_unit": 1}})
    await umoja.pay("R1", 100_00, "000000011")
    await umoja.work()
    for _ in range(3):
        await umoja.work("message.send")
        umoja.runtime.clock.pass_time(hours=1)

    assert len(await umoja.texts()) == 1, "the client has exactly one text"
    assert await umoja.balance("wallet") == Money(0)
    assert [(one.kind, one.amount) for one in await umoja.cases()] == [("sms_unknown", Money(80))]


async def test_wrong_sms_credentials_hold_the_texts_back_and_say_so_once(umoja):
    from sqlalchemy import text

    async with umoja.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE partners SET sms_user = 'nobody'"))
    umoja.connections.forget(umoja.partner.id)
    for n in range(3):
        await umoja.pay(f"R{n}", 100_00, "000000011")
    await umoja.work()
    await umoja.work("message.send")

    assert [one.kind for one in await umoja.cases()] == ["sms_gateway_refuses"]
    assert [row.state for row in await umoja.rows("SELECT state FROM messages")] == ["queued"] * 3
    assert await umoja.balance("wallet") == Money(0)
