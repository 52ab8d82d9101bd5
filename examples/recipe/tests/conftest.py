"""A database for the run, and a transaction for each test that is rolled back."""

from collections.abc import Iterator

import pytest
from recipe import mailer
from recipe.db import Base, Session, User
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session as SqlSession

from pgjobs_celery import using


@pytest.fixture(scope="session")
def engine(pgjobs_database_url: str) -> Iterator[Engine]:
    engine = create_engine(pgjobs_database_url.replace("pgjobs://", "postgresql+psycopg://", 1))
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[SqlSession]:
    """All that the code under test does is in this transaction, and is taken back."""
    with engine.connect() as connection:
        transaction = connection.begin()
        Session.configure(bind=connection, join_transaction_mode="create_savepoint")
        with Session() as session, using(connection):
            yield session
        transaction.rollback()


@pytest.fixture
def outbox() -> list:
    mailer.outbox.clear()
    return mailer.outbox


@pytest.fixture
def user(session: SqlSession) -> User:
    user = User(name="Ann", email="ann@example.com")
    session.add(user)
    session.commit()
    return user
