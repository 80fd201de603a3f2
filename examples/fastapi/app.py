"""An ordinary FastAPI application. What its environment gives it comes as `request.scope["env"]`."""

from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel


@asynccontextmanager
async def lifespan(_app):
    yield {"notes": {}}


app = FastAPI(lifespan=lifespan)


class Note(BaseModel):
    text: str


def with_token(request: Request, authorization: Annotated[str, Header()] = ""):
    if authorization != f"Bearer {request.scope['env'].TOKEN}":
        raise HTTPException(401, "a token is needed")


@app.get("/")
async def title(request: Request):
    return {"title": request.scope["env"].TITLE, "notes": len(request.state.notes)}


@app.put("/notes/{name}", dependencies=[Depends(with_token)])
async def put(name: str, note: Note, request: Request):
    request.state.notes[name] = note.text
    return note


@app.get("/notes/{name}")
def get(name: str, request: Request):
    if name not in request.state.notes:
        raise HTTPException(404, f"no note {name}")
    return {"text": request.state.notes[name]}


@app.get("/all.txt")
async def everything(request: Request):
    lines = (f"{name}: {text}\n" for name, text in sorted(request.state.notes.items()))
    return StreamingResponse(lines, media_type="text/plain")
