"""Samples of text to count tokens on, written for this course: one story in five languages, code, numbers, emoji.

The five stories say the same, sentence by sentence, so that the cost of a *content* can be compared, too.
"""

_ENGLISH = (
    "Every morning, before the shops opened, Mia took her dog for a walk. They left the house, crossed the small "
    "bridge and followed the path along the river. The dog knew the way. It ran ahead, stopped, looked back and "
    "waited for her. Behind the last houses began the hill, and at the top of the hill stood an old tree. From there "
    "you could see the whole town: the church, the school, the market and the long road to the sea.\n\n"
    "One day it had rained during the night, and the grass was still wet. Mia had brought a red ball. She threw it "
    "as far as she could. The dog ran up the hill, but the ball rolled down on the other side and disappeared. For a "
    "long time everything was quiet. Mia called, but no one answered. Then she heard a voice. A boy came out of the "
    "garden behind the tree, with the ball in his hand and the dog at his side. “Is this your dog?” he asked. “It "
    "brought me the ball and would not go away.” Mia laughed. “It does not want to give it to you,” she said. “It "
    "wants you to throw it.” From that day on, the three of them climbed the hill every morning.\n"
)

_GERMAN = (
    "Jeden Morgen, bevor die Läden öffneten, ging Mia mit ihrem Hund spazieren. Sie verließen das Haus, gingen über "
    "die kleine Brücke und folgten dem Weg am Fluss entlang. Der Hund kannte den Weg. Er lief voraus, blieb stehen, "
    "sah sich um und wartete auf sie. Hinter den letzten Häusern begann der Hügel, und oben auf dem Hügel stand ein "
    "alter Baum. Von dort konnte man die ganze Stadt sehen: die Kirche, die Schule, den Markt und die lange Straße "
    "zum Meer.\n\n"
    "Eines Tages hatte es in der Nacht geregnet, und das Gras war noch nass. Mia hatte einen roten Ball mitgebracht. "
    "Sie warf ihn, so weit sie konnte. Der Hund rannte den Hügel hinauf, aber der Ball rollte auf der anderen Seite "
    "hinunter und verschwand. Lange Zeit war alles still. Mia rief, aber niemand antwortete. Dann hörte sie eine "
    "Stimme. Ein Junge kam aus dem Garten hinter dem Baum, mit dem Ball in der Hand und dem Hund an seiner Seite. "
    "„Ist das dein Hund?“, fragte er. „Er hat mir den Ball gebracht und wollte nicht mehr weggehen.“ Mia lachte. "
    "„Er will ihn dir nicht geben“, sagte sie. „Er will, dass du ihn wirfst.“ Von diesem Tag an stiegen sie jeden "
    "Morgen zu dritt auf den Hügel.\n"
)

_RUSSIAN = (
    "Каждое утро, ещё до открытия магазинов, Мия гуляла со своей собакой. Они выходили из дома, переходили маленький "
    "мост и шли по тропинке вдоль реки. Собака знала дорогу. Она бежала вперёд, останавливалась, оглядывалась и ждала "
    "Мию. За последними домами начинался холм, а на вершине холма стояло старое дерево. Оттуда был виден весь город: "
    "церковь, школа, рынок и длинная дорога к морю.\n\n"
    "Однажды ночью прошёл дождь, и трава была ещё мокрой. Мия взяла с собой красный мяч. Она бросила его так далеко, "
    "как только могла. Собака взбежала на холм, но мяч скатился по другому склону и исчез. Долгое время всё было тихо. "
    "Мия звала, но никто не отвечал. Потом она услышала голос. Из сада за деревом вышел мальчик с мячом в руке, а "
    "рядом с ним шла собака. «Это твоя собака?» — спросил он. «Она принесла мне мяч и не хотела уходить». Мия "
    "засмеялась. «Она не хочет отдавать его тебе, — сказала она. — Она хочет, чтобы ты его бросил». С того дня они "
    "поднимались на холм каждое утро втроём.\n"
)

_HINDI = (
    "हर सुबह, दुकानें खुलने से पहले, मिया अपने कुत्ते को घुमाने ले जाती थी। वे घर से निकलते, छोटा पुल पार करते और नदी के किनारे वाले "
    "रास्ते पर चलते। कुत्ता रास्ता जानता था। वह आगे दौड़ता, रुकता, पीछे मुड़कर देखता और मिया का इंतज़ार करता। आख़िरी घरों के पीछे "
    "पहाड़ी शुरू होती थी, और पहाड़ी की चोटी पर एक पुराना पेड़ खड़ा था। वहाँ से पूरा शहर दिखाई देता था: गिरजाघर, स्कूल, बाज़ार और "
    "समुद्र तक जाने वाली लंबी सड़क।\n\n"
    "एक दिन, रात में बारिश हुई थी और घास अब भी गीली थी। मिया एक लाल गेंद लाई थी। उसने गेंद को जितनी दूर हो सका, उतनी दूर "
    "फेंका। कुत्ता दौड़कर पहाड़ी पर चढ़ गया, लेकिन गेंद दूसरी तरफ़ लुढ़क गई और गायब हो गई। बहुत देर तक सब शांत रहा। मिया ने पुकारा, "
    "लेकिन किसी ने जवाब नहीं दिया। फिर उसे एक आवाज़ सुनाई दी। पेड़ के पीछे वाले बगीचे से एक लड़का निकला, उसके हाथ में गेंद थी और "
    "कुत्ता उसके साथ था। “क्या यह तुम्हारा कुत्ता है?” उसने पूछा। “यह मेरे पास गेंद ले आया और जाने का नाम ही नहीं ले रहा था।” मिया "
    "हँस पड़ी। “यह गेंद तुम्हें देना नहीं चाहता,” उसने कहा। “यह चाहता है कि तुम इसे फेंको।” उस दिन से वे तीनों हर सुबह पहाड़ी पर "
    "चढ़ने लगे।\n"
)

_CHINESE = (
    "每天早晨，商店还没开门，米娅就带着她的狗去散步。他们走出家门，穿过小桥，沿着河边的小路往前走。狗认得路。它跑在前面，停下来，"
    "回头看看，等着她。最后几座房子后面就是山坡，山顶上有一棵老树。从那里可以看到整个小镇：教堂、学校、市场，还有通往大海的长路。\n\n"
    "有一天，夜里下过雨，草还是湿的。米娅带来了一个红球。她用尽力气把球扔得远远的。狗跑上了山坡，可是球从另一边滚了下去，不见了。"
    "很长一段时间，四周一片寂静。米娅大声呼唤，可是没有人回答。后来她听到了一个声音。一个男孩从树后面的花园里走出来，手里拿着球，"
    "狗跟在他身边。“这是你的狗吗？”他问。“它把球送到我这里，就不肯走了。”米娅笑了。“它不是想把球给你。”她说，“它是想让你扔球。”"
    "从那天起，他们三个每天早晨都一起爬上山坡。\n"
)

STORY = {"English": _ENGLISH, "German": _GERMAN, "Russian": _RUSSIAN, "Hindi": _HINDI, "Chinese": _CHINESE}

PYTHON = '''\
from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True)
class Place:
    """A place on the map, in metres from the church."""

    name: str
    x: float
    y: float

    def distance_to(self, other):
        return sqrt((self.x - other.x) ** 2 + (self.y - other.y) ** 2)


PLACES = [
    Place("church", 0.0, 0.0),
    Place("school", 120.0, 45.5),
    Place("market", -60.0, 210.0),
    Place("hill", 850.0, -300.0),
]


def nearest(start, places=PLACES):
    """The place with the shortest way from `start`, which itself does not count."""
    others = [place for place in places if place is not start]
    if not others:
        raise ValueError(f"there is no place besides {start.name}")
    return min(others, key=start.distance_to)


def walk(start, steps):
    seen = [start]
    for _ in range(steps):
        left = [place for place in PLACES if place not in seen]
        if len(left) == 0:
            break
        seen.append(nearest(seen[-1], left))
    return [place.name for place in seen]


if __name__ == "__main__":
    print(" -> ".join(walk(PLACES[0], steps=3)))
'''

# powers of 7, so that no two lines are alike: 1, 7, 49, 343, …
NUMBERS = "".join(f"{7**exponent}\n" for exponent in range(48))

EMOJI = (
    "🐶🏃⛰️🌳🔴⚽👧🏽👦🏻🌧️☀️🌊🏫⛪🛒🌉🏡🚶‍♀️🐕‍🦺😀😂🥹🤔😴🥳❤️💚💙💜👍🏿👋🏼🙏🤝💡🔥🎉🎂🍎🍕☕🚗🚲✈️🚀⏰📚✏️💻📱🔑🎈"
    "🇮🇳🇩🇪🇨🇳👨‍👩‍👧‍👦👩‍🔬🧑‍🏫🏳️‍🌈🐱🐭🐰🦊🐻🐼🐨🐯🦁🐮🐷🐸🐵🐔🐧🐦🐤🦆🦉🐺🐴🦄🐝🐛🦋🐌🐞🐜🕷️🐢🐍🦎🐙🦀🐠🐬🐳🦈🐊🐘🦒🦘\n"
)

SAMPLES = STORY | {"Python code": PYTHON, "numbers": NUMBERS, "emoji": EMOJI}
