"""The web, with FastAPI."""

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel

from .accounts import Invalid, create_user

web = FastAPI()


class NewUser(BaseModel):
    name: str = ""
    email: str = ""


@web.post("/users")
def post_user(user: NewUser) -> Response:
    try:
        user_id = create_user(user.name, user.email)
    except Invalid as error:
        return HTMLResponse(f"<h1>New User</h1><p>{error}</p>", status_code=422)
    return RedirectResponse(f"/users/{user_id}", status_code=303)
