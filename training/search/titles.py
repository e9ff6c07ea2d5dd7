"""Book titles and readers' questions in both languages, composed from dictionary terms.

`{a}`, `{b}` stand for topics. The question form of the project's own example (我想找关于…的书, "I am looking for a book about …")
is left out on purpose, and so are its topics (`heldout.example_topics`): what it shows was not trained on it.
"""

import collections
import itertools
import random

from training.translate.corpus import bare

TITLES = """
Introduction to {a}|{a}导论
An Introduction to {a}|{a}入门
Introduction to {a}|{a}概论
{a} Explained in Detail|{a}详解
{a}: A Beginner's Guide|{a}初学者指南
A Guide to {a}|{a}指南
The Complete Guide to {a}|{a}完全指南
{a} Handbook|{a}手册
Principles of {a}|{a}原理
Fundamentals of {a}|{a}基础
The Basics of {a}|{a}基础知识
Foundations of {a}|{a}的基础
Advanced {a}|高等{a}
A History of {a}|{a}史
A Brief History of {a}|{a}简史
The History of {a}|{a}的历史
The Story of {a}|{a}的故事
The Art of {a}|{a}的艺术
The World of {a}|{a}的世界
The Secret of {a}|{a}的秘密
{a} in Daily Life|生活中的{a}
{a} and {b}|{a}与{b}
{a} and {b}|{a}和{b}
{a} of {b}|{b}的{a}
On {a}|论{a}
Essays on {a}|{a}随笔
Lectures on {a}|{a}讲义
Modern {a}|现代{a}
Contemporary {a}|当代{a}
Ancient {a}|古代{a}
Chinese {a}|中国{a}
Western {a}|西方{a}
French {a}|法国{a}
Japanese {a}|日本{a}
American {a}|美国{a}
Applied {a}|应用{a}
{a} for Children|儿童{a}
{a} for Everyone|大众{a}
Understanding {a}|理解{a}
Learning {a}|学习{a}
{a}: Theory and Practice|{a}的理论与实践
{a} in Practice|{a}实践
{a} Illustrated|图解{a}
Encyclopedia of {a}|{a}百科全书
Dictionary of {a}|{a}词典
Selected Readings on {a}|{a}选读
Research on {a}|{a}研究
Problems in {a}|{a}习题集
Stories of {a}|{a}故事集
The Future of {a}|{a}的未来
The Beauty of {a}|{a}之美
The Road to {a}|{a}之路
Thinking About {a}|思考{a}
How {a} Changed the World|{a}如何改变世界
My Life with {a}|我与{a}
The {a} Murders|{a}谋杀案
A Novel of {a}|一部关于{a}的小说
""".strip().split("\n")

COMPOUNDS = ["{a} {b}|{a}{b}"] * 8  # economic geography, 经济地理: what a word adds to the next

QUESTIONS = """
Is there a book on {a}?|有没有讲{a}的书？
Please recommend a book on {a}|请推荐一本{a}方面的书
Which book explains {a}?|哪本书讲解{a}？
I want to learn about {a}|我想了解{a}
I would like to read something about {a}|我想读点关于{a}的东西
What should I read to learn {a}?|想学{a}应该看什么书？
books about {a}|关于{a}的书籍
{a} books|{a}类图书
Find me a beginner's book on {a}|帮我找一本{a}入门书
Where are the books on {a}?|{a}的书在哪里？
Do you have anything on {a} and {b}?|有没有关于{a}和{b}的内容？
I need a textbook on {a}|我需要一本{a}教材
I am interested in {a}|我对{a}感兴趣
A novel about {a}, please|想看一本讲{a}的小说
""".strip().split("\n")

SMALL = {"of", "and", "the", "in", "on", "to", "a", "an", "for", "with", "by"}


def capital(text: str) -> str:
    """As titles are written: quantum mechanics -> Quantum Mechanics."""
    return " ".join(w if w in SMALL and n else w[:1].upper() + w[1:] for n, w in enumerate(text.split()))


def case_of(forms: list[str]):
    return str if forms[0] == QUESTIONS[0] else capital


class Asker:
    """Questions and titles about the same topic, drawn endlessly: the same seed draws the same."""

    def __init__(self, topics: list[tuple[str, str]], weights: list[float], avoid: set[str]):
        """topics: (English, Chinese); avoid: bare texts that must not be drawn"""
        self.topics, self.weights, self.avoid = topics, list(itertools.accumulate(weights)), avoid
        self.forms = [[form.split("|") for form in forms if "{b}" not in form] for forms in (QUESTIONS, TITLES)]
        self.mates = collections.defaultdict(list)  # topics that begin or end alike: 量子力学 with 热力学 and 量子化学
        for n, (_, zh) in enumerate(topics):
            for part in {zh[:2] + "…", "…" + zh[-2:]}:
                self.mates[part].append(n)

    def draw(self, seeds: int, more: int, rng: random.Random) -> list[int]:
        """Different topics: `seeds` by weight, and to each up to `more` that begin or end like it."""
        found = {}
        for n in rng.choices(range(len(self.topics)), cum_weights=self.weights, k=seeds):
            found[n] = True
            zh = self.topics[n][1]
            for _ in range(more):
                found[rng.choice(self.mates[rng.choice([zh[:2] + "…", "…" + zh[-2:]])])] = True
        return list(found)

    def ask(self, topic: int, rng: random.Random) -> tuple[str, str]:
        """-> a question and a title, each in one language or the other"""
        return self._line(0, topic, rng), self._line(1, topic, rng)

    def _line(self, kind: int, topic: int, rng: random.Random) -> str:
        while True:
            side = rng.randrange(2)
            name = self.topics[topic][side]
            if kind and side == 0:
                name = capital(name)
            text = rng.choice(self.forms[kind])[side].format(a=name)
            if bare(text) not in self.avoid:
                return text


def compose(forms: list[str], topics: list[tuple[str, str]], weights: list[float], count: int, seed: int) -> list[tuple[str, str]]:
    """`count` draws of (English, Chinese) pairs, duplicates removed; topics are drawn by weight."""
    rng = random.Random(seed)
    case = case_of(forms)
    pairs = []
    for (en_a, zh_a), (en_b, zh_b) in zip(rng.choices(topics, weights, k=count), rng.choices(topics, weights, k=count)):
        en, zh = rng.choice(forms).split("|")
        pairs.append((en.format(a=case(en_a), b=case(en_b)), zh.format(a=zh_a, b=zh_b)))
    return list(dict.fromkeys(pairs))
