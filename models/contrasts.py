#!/usr/bin/env python3
"""Writes labelled sentences whose sentiment hangs on negation, contrast or irony: contrasts.py COUNT
SEED > FILE.tsv

Phrases and whole reviews of films and restaurants, which is what the public sets have, teach little
about "not a single dish was good", "lovely screen, but it died on day two" or "great, another hour on
hold". These sentences are put together from patterns and lists written for this project, and know
nothing of demo_reviews.tsv.
"""

import random
import sys

DOMAINS = [
    # aspects | things that go wrong, as one does them | things that go well, as one does them
    (["acting", "plot", "ending", "script", "soundtrack", "dialogue", "camera work", "pacing", "cast",
      "second half", "opening scene", "humour", "love story", "villain", "direction"],
     ["watching paint dry for two hours", "guessing the ending in the first scene",
      "hearing the same joke four times", "squinting at scenes lit by one candle",
      "listening to actors read their lines off a card", "checking my watch every five minutes",
      "sitting through three endings in a row", "being lectured by a talking dog"],
     ["laughing until my sides hurt", "staying for the credits just to sit with it",
      "thinking about it for days", "watching it twice in one weekend",
      "crying in front of strangers and not minding"]),
    (["soup", "waiter", "bread", "dessert", "coffee", "burger", "noodles", "portion", "salad", "wine",
      "fish", "breakfast", "table by the window", "curry", "sauce", "pizza"],
     ["waiting forty minutes for cold soup", "chewing through grey meat", "paying extra for tap water",
      "finding a hair under the lettuce", "sharing my lunch with flies",
      "being forgotten by three waiters in turn", "eating rice that could patch a wall",
      "getting the bill before the food"],
     ["mopping up the last of the sauce with bread", "ordering a second plate",
      "being greeted like an old friend", "taking the recipe home",
      "planning the next visit before dessert"]),
    (["screen", "battery", "charger", "keyboard", "app", "hinge", "camera", "strap", "speaker",
      "microphone", "update", "touchpad", "case", "sound", "remote", "setup"],
     ["charging it three times a day", "restarting it every hour", "reading error codes at midnight",
      "pressing each key twice", "watching it update for an evening",
      "buying a second one because the first melted", "hunting for a cable nobody sells",
      "explaining to friends why my voice sounds like a drain"],
     ["forgetting where I left the charger", "dropping it twice without a scratch",
      "setting it up before my tea was cold", "leaving the old one in a drawer",
      "working a whole flight on one charge"]),
    (["plumber", "hotel room", "check-in", "delivery", "support line", "mechanic", "haircut",
      "cleaning crew", "booking", "driver", "front desk", "repair", "appointment", "shuttle",
      "dentist", "installation", "invoice"],
     ["being on hold for an hour", "paying twice for the same repair",
      "listening to the neighbour's television through the wall", "mopping up after the plumber",
      "chasing a parcel across three counties", "waiting in all day for nobody",
      "repeating my name to a robot", "missing the train because the taxi got lost"],
     ["getting a call back within minutes", "paying less than the estimate",
      "finding the kitchen cleaner than before", "sleeping until noon without a sound",
      "being driven home when the bus did not come"]),
]
GOOD = ["excellent", "superb", "lovely", "delightful", "reliable", "wonderful", "brilliant", "charming",
        "fantastic", "impressive", "perfect", "great", "good", "pleasant", "outstanding", "flawless",
        "decent", "solid"]
BAD = ["awful", "terrible", "dreadful", "useless", "disappointing", "sloppy", "lifeless", "shoddy",
       "poor", "bad", "unbearable", "miserable", "mediocre", "faulty", "bland", "dull", "careless",
       "clumsy"]
BETTER = ["better", "finer", "more helpful", "more enjoyable", "smoother"]
WORSE = ["worse", "duller", "more annoying", "more careless", "sloppier"]
YES = ["I would go back tomorrow", "I'd recommend it to anyone", "I'm glad I chose it",
       "it was worth every penny", "I came away happy", "I'll be back", "it won me over"]
NO = ["I wouldn't go back", "I can't recommend it", "I want my money back", "it was a waste of money",
      "I regret it", "never again", "I'm done with them", "I gave up on it"]
PATTERNS = [
    # one clear word
    ("The {a} was {good} and the {b} even {better}.", 1), ("The {a} was {bad} and the {b} even {worse}.", 0),
    ("{Good} {a}, {good2} {b}; {yes}.", 1), ("{Bad} {a}, {bad2} {b}; {no}.", 0),
    # the second half decides
    ("The {a} was {good}, but the {b} was so {bad} that {no}.", 0),
    ("The {a} was {bad}, but the {b} was so {good} that {yes}.", 1),
    ("Despite the {bad} {a}, {yes}.", 1), ("Despite the {good} {a}, {no}.", 0),
    ("I expected a {bad} {a} and got a {good} one.", 1),
    ("I expected a {good} {a} and got a {bad} one.", 0),
    ("They promised a {good} {a}. What I got was {wrong}.", 0),
    ("{Good} {a}, I admit. Everything else was {bad}.", 0),
    ("{Bad} {a}, I admit. Everything else was {good}.", 1),
    ("The {a} could be {better}, yet {yes}.", 1), ("Nice {a}, shame about the {b}: {no}.", 0),
    ("Forget what they say about the {a} being {bad}: it was {good}.", 1),
    ("The reviews call the {a} {good}. After {wrong}, I call it {bad}.", 0),
    ("I nearly left because of the {bad} {a}; thank goodness I stayed, {yes}.", 1),
    ("For all its {good} {a}, the {b} is {bad} and {no}.", 0),
    # negation
    ("I can't fault the {a}.", 1), ("There was nothing {bad} about the {a}.", 1),
    ("There was nothing {good} about the {a}.", 0), ("The {a} wasn't {good} at all.", 0),
    ("The {a} wasn't {bad} at all.", 1), ("I have never had a {better} {a}.", 1),
    ("I have never had a {worse} {a}.", 0), ("You won't find a {better} {a} anywhere.", 1),
    ("The {a} is far from {bad}.", 1), ("The {a} is far from {good}.", 0),
    ("The {a} couldn't have been {better}.", 1), ("The {a} couldn't have been {worse}.", 0),
    ("Hardly a {good} {a}, and not a {good2} {b} either.", 0),
    ("Not once was the {a} {bad}.", 1), ("Not once was the {a} {good}.", 0),
    ("I don't see how anyone can call the {a} {good}.", 0),
    ("I don't see how anyone can call the {a} {bad}.", 1),
    ("No {a} should be this {bad}.", 0), ("It isn't {bad}, it's {good}.", 1),
    ("It isn't {good}, it's {bad}.", 0), ("Don't bother with the {a}.", 0),
    ("Don't hesitate, the {a} alone is worth it.", 1), ("The {a} never let me down.", 1),
    ("The {a} did nothing but let me down.", 0), ("I wouldn't change a thing about the {a}.", 1),
    ("I wouldn't wish this {a} on anyone.", 0), ("Nobody in our group disliked the {a}.", 1),
    ("Nobody in our group liked the {a}.", 0), ("Without the {a} it would have been {good}.", 0),
    # irony
    ("If you enjoy {wrong}, this {a} is perfect for you.", 0), ("What a treat, {wrong}.", 0),
    ("Great, another evening of {wrong}.", 0), ("Five stars for {wrong}.", 0),
    ("I just love {wrong}.", 0), ("Congratulations on making the {a} even {worse}.", 0),
    ("Best {a} ever, if your idea of fun is {wrong}.", 0), ("Thanks for {wrong}, really {good}.", 0),
    ("Who needs a {good} {a} when you can have {wrong}?", 0),
    ("Apparently {wrong} counts as a {good} {a} these days.", 0),
    ("Nothing says {good} like {wrong}.", 0), ("I paid for a {a}; {wrong} came free.", 0),
    ("My only complaint is {right}.", 1), ("Be warned: you will end up {right}.", 1),
    ("It ruined every other {a} for me, and {yes}.", 1), ("Terrible news for my diary: {right} again.", 1),
    ("I tried to find something {bad} about it and failed; I was too busy {right}.", 1),
    ("The worst part was leaving. I miss {right}.", 1), ("I blame the {good} {a} for {right}.", 1),
    ("Ended up {right}, which never happens to me.", 1), ("Ended up {wrong}, as usual.", 0),
]


def sentence(rng):
    aspects, wrong, right = rng.choice(DOMAINS)
    a, b = rng.sample(aspects, 2)
    good, good2 = rng.sample(GOOD, 2)
    bad, bad2 = rng.sample(BAD, 2)
    pattern, label = rng.choice(PATTERNS)
    text = pattern.format(
        a=a, b=b, good=good, good2=good2, bad=bad, bad2=bad2, Good=good.capitalize(),
        Bad=bad.capitalize(), better=rng.choice(BETTER), worse=rng.choice(WORSE),
        yes=rng.choice(YES), no=rng.choice(NO), wrong=rng.choice(wrong), right=rng.choice(right))
    return text, label


def sentences(count, seed):
    """(text, label), some of them more than once."""
    rng = random.Random(seed)
    return [sentence(rng) for _ in range(count)]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print("text\tlabel")
    for text, label in sentences(int(sys.argv[1]), int(sys.argv[2])):
        print(f"{text}\t{label}")


if __name__ == "__main__":
    main()
