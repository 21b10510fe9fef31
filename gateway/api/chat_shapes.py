"""The flow of a chat, and where a session is in it, in the shapes that chats read: of the published flow and of a draft alike."""

from collections.abc import Collection
from typing import Any

from scoring.chat.conversation import Conversation
from scoring.chat.flow import ChatFlow, FlowOffer, FlowQuestion
from scoring.chat.replies import next_reply

Shown = dict[str, Any]


def flow_shape(flow: ChatFlow, language: str) -> Shown:
    return {
        "language": language,
        "languages": flow.languages,
        "greeting": {
            "id": flow.greeting,
            "text": flow.greeting_text[language],
            "variants": {name: {"text": text[language]} for name, text in flow.greeting_variants.items()},
        },
        "questions": [question_shape(flow, each, language) for each in flow.questions],
        "contact": {"id": flow.contact, "text": flow.contact_text[language], "step": "contact"},
        "thanks": flow.thanks[language],
    }


def progress_shape(
    flow: ChatFlow, conversation: Conversation, answered: Collection[int], language: str
) -> Shown:
    """What is answered, and what the chat says next."""
    reply = next_reply(flow, conversation, answered, language)
    question = reply.question
    return {
        "answered": [each.id for each in flow.questions if each.id in answered],
        "next_question": None if question is None else question_shape(flow, question, language),
        "completed": question is None,
        "reply": reply.text,
        "asks": "question" if question else "contact" if reply.asks_contact else None,
    }


def question_shape(flow: ChatFlow, question: FlowQuestion, language: str) -> Shown:
    return {
        "id": question.id,
        "text": question.text[language],
        "options": question.options[language],
        "step": question.step,
        "order": flow.questions.index(question) + 1,
        "profile_field": question.profile_field,
        "several": question.several,
    }


def choice_shape(choice: FlowOffer, language: str) -> Shown:
    about = choice.about[language] or None
    return {"id": choice.id, "text": choice.text[language], "description": about, "action": choice.action}
