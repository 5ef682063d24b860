"""What every connection to a database has."""

from kit.db import make_engine


async def test_a_server_that_vanished_is_noticed(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        said = raw.driver_connection.info.get_parameters()
    await engine.dispose()

    assert (said["keepalives_idle"], said["keepalives_interval"], said["keepalives_count"]) == ("5", "2", "3")
    assert said["tcp_user_timeout"] == "10000"
