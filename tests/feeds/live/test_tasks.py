import asyncio

from feeds.live.tasks import cancel_all


async def test_a_task_that_loses_a_cancellation_is_cancelled_again():
    lost = 0

    async def deaf():
        nonlocal lost
        while lost < 3:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost += 1
        await asyncio.sleep(3600)

    async def failing():
        try:
            await asyncio.sleep(3600)
        finally:
            raise ValueError("while ending")

    async def done():
        pass

    tasks = [asyncio.ensure_future(work()) for work in (deaf, failing, done)]
    await asyncio.sleep(0)
    await cancel_all(tasks)
    assert lost == 3
    assert [task.done() for task in tasks] == [True] * 3
    assert tasks[0].cancelled()


async def test_there_may_be_nothing_to_end():
    await cancel_all([])
