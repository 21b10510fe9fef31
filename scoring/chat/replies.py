"""What a chat writes next: it follows from what is recorded of the session, so any process can go on with it. Pure."""

from collections.abc import Collection
from typing import NamedTuple

from scoring.chat.conversation import Conversation
from scoring.chat.flow import ChatFlow, FlowOffer, FlowQuestion, next_question


class ChatReply(NamedTuple):
    """A text, and what it asks for: the answer to a question, the contact, or a click on an offer."""

    text: str
    question: FlowQuestion | None = None
    asks_contact: bool = False
    offers: tuple[FlowOffer, ...] = ()


def next_reply(
    flow: ChatFlow,
    conversation: Conversation,
    answered: Collection[int],
    language: str,
    *,
    greets: bool = False,
) -> ChatReply:
    """The first open question, then the contact, then thanks with products and calls to action. `answered`: the
    questions that are; `greets`: the person has just opened the chat, so the greeting comes before the rest.
    """
    question = next_question(flow, answered)
    if question is not None:
        reply = ChatReply(question.text[language], question=question)
    elif not conversation.has_contact():
        reply = ChatReply(flow.contact_text[language], asks_contact=True)
    else:
        reply = ChatReply(flow.thanks[language], offers=(*flow.products, *flow.ctas))
    if not greets:
        return reply
    greeting = flow.greeting_text[language]
    return reply._replace(text=greeting if reply.offers else f"{greeting}\n\n{reply.text}")


def reply_to_offer(flow: ChatFlow, offer: FlowOffer, language: str) -> ChatReply:
    """To a click on a product: what it is, and the calls to action. To a call to action: thanks."""
    if offer in flow.products:
        return ChatReply(offer.about[language] or offer.text[language], offers=flow.ctas)
    return ChatReply(flow.thanks[language])


def language_of(flow: ChatFlow, code: str | None) -> str:
    """The flow's language that is nearest to a code such as `pt-BR`; the default one, if none is near."""
    stated = (code or "").lower().replace("_", "-")
    exact = (each for each in flow.languages if each.lower() == stated)
    related = (each for each in flow.languages if each.lower().partition("-")[0] == stated.partition("-")[0])
    return next(exact, None) or next(related, flow.language)
