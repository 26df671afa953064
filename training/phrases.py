"""Sentences that make a response worse, written for corruptions: False for training prompts, True for held-out ones.

The two sides share no phrase, so that a model is not tested on what it was trained on.
"""

from __future__ import annotations

HEDGES: dict[bool, tuple[str, ...]] = {
    False: (
        "I am not sure about any of this, so please look it up yourself.",
        "It might be so, or it might be something else entirely.",
        "There are many opinions on this, and I would rather not say more.",
        "I could be completely wrong here.",
        "It really depends on a lot of things that I can't go into.",
        "Maybe this is right, maybe it isn't.",
        "You would have to ask somebody who knows about this.",
        "As an AI, I can't really have a view on this.",
        "I don't have enough information to say anything definite.",
        "Some would say so, but others would disagree.",
        "Please don't rely on what I have just told you.",
        "I think that's how it works, but I have not checked.",
        "Things like this are hard to say for certain.",
        "I suppose it's possible, although I wouldn't know.",
        "Perhaps an expert could tell you more than I can.",
        "It may or may not apply to your situation.",
        "I'm only guessing at this point.",
        "Honestly, I can't say whether this will help you.",
        "There is probably more to it, but I don't know what.",
        "Your results may be different for all sorts of reasons.",
    ),
    True: (
        "Take all this with a grain of salt, since I have no idea.",
        "I have a feeling it goes like this, but don't hold me to it.",
        "Whether that holds is anybody's guess.",
        "This is a complicated topic, and I'd better leave it there.",
        "It's not for me to decide what is true here.",
        "For real answers, you'll need to search the internet.",
        "I may have mixed this up with another subject.",
        "In some cases it is so, and in others it fails.",
        "No one can really tell, so there is little point in trying.",
        "I would not bet on it if I were you.",
        "Possibly there's a better answer somewhere else.",
        "Opinions vary, and so does the outcome.",
    ),
}

RUDE: dict[bool, tuple[str, ...]] = {
    False: (
        "What a stupid question!",
        "Only an idiot would need to ask this.",
        "I can't believe I have to explain this to you.",
        "You clearly don't understand the first thing about it.",
        "Stop wasting my time.",
        "Even a small child knows that.",
        "Are you really that dumb?",
        "You people are all the same.",
        "Frankly, I don't care about your problems.",
        "Use your brain for once.",
        "You are too lazy to find it out yourself.",
        "Nobody likes people who ask things like that.",
        "It's pathetic that you don't know this already.",
        "Shut up and read carefully.",
        "I doubt that somebody like you will get it.",
        "This is beneath me, but here we are.",
        "Your ignorance is embarrassing.",
        "Quit whining and pay attention, moron.",
        "You should be ashamed of yourself for asking.",
        "You must have slept through school.",
    ),
    True: (
        "How can anyone be this clueless?",
        "I have better things to do than to babysit you.",
        "Get a life and leave me alone.",
        "You are obviously not the sharpest tool in the shed.",
        "That has to be the dumbest thing I have heard all day.",
        "Don't bother me with such nonsense again.",
        "A monkey could have worked this out.",
        "Not that a fool like you would notice the difference.",
        "Try thinking before you open your mouth.",
        "What on earth is wrong with you?",
        "I'm tired of spelling things out for losers.",
        "It is no wonder that you failed.",
    ),
}
