"""The invented company of the simulation and its visitors: the data, and how a person is drawn from it.

Harbourline lets and sells serviced offices, and sells the software for it. All people and companies are
invented: domains end in `.example`, and telephone numbers are in the range for fiction. A person is a pure
function of (seed, number): no list of people is ever in memory.
"""

from random import Random
from typing import NamedTuple, TypeVar

T = TypeVar("T")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SITE = "https://www.harbourline.example"
TIME_ZONE = "Europe/Berlin"

FIRST_NAMES = _words(
    "Aaliyah Abebe Adriana Aisha Akira Alejandro Amara Anders Anjali Antonia Arjun Astrid Ayumi Beatriz Bilal "
    "Birgit Camille Carlos Chiara Chinedu Clara Daniela Darius Davide Dilnoza Dmitri Eilidh Elena Emeka Esra "
    "Fatima Felix Femi Freya Gabriel Giulia Hana Hassan Helga Hiroshi Ines Ingrid Isabel Ivan Jakub Jamila Jin "
    "Joana Jonas Kaito Kamala Katarzyna Kenji Kofi Laila Lars Leila Liam Lina Lucia Magnus Malik Marek Maria "
    "Mateo Mei Milan Mina Miriam Mohammed Nadia Naomi Nikhil Noor Nuria Olena Olu Omar Paula Pedro Petra Priya "
    "Rafael Rania Ravi Rosa Ruth Samira Sanjay Sara Selma Sofia Soren Sunita Tariq Teresa Thandiwe Tomasz Ursula "
    "Valentina Vikram Wanjiru Wei Yara Yasmin Yusuf Zanele Zofia"
)

LAST_NAMES = _words(
    "Abdi Acheampong Almeida Andersson Banerjee Bauer Becker Benali Berg Bianchi Bose Castillo Chen Choi Costa "
    "Dahl Danso Demir Diallo Dubois Eriksen Farah Fernandez Ferrari Fischer Fofana Fujita Garcia Gomez Gupta "
    "Haddad Hansen Hartmann Hoffmann Horvat Hussein Ibrahim Ivanova Jansen Joshi Kamara Kaplan Karimi Kaya Keller "
    "Khan Kim Kovacs Kowalska Kruger Kumar Larsen Laurent Lehmann Lindqvist Lopez Mahlangu Marino Martins Mehta "
    "Mendes Mensah Meyer Moreau Moretti Moyo Mueller Nakamura Ndiaye Nguyen Nikolaidis Novak Nowak Nunez Obi "
    "Okafor Okonkwo Olsen Ortega Osei Park Patel Pereira Petrov Popescu Qureshi Rahman Ramos Reyes Ricci Rossi "
    "Sato Schmidt Schneider Sharma Silva Singh Sorensen Suzuki Takahashi Tanaka Tesfaye Toth Traore Vargas Vega "
    "Visser Wagner Wanjala Weber Yamamoto Yilmaz Zhang Zimmermann"
)

COMPANY_HEADS = _words(
    "Alder Amber Anchor Aster Beacon Birch Bluebell Boreal Cedar Cobalt Copper Coral Crescent Delta Ember Fjord "
    "Garnet Granite Harvest Heron Indigo Iris Juniper Kestrel Lantern Linden Lumen Maple Meridian Mistral Nimbus "
    "Oakfield Onyx Opal Orchard Pelican Pinnacle Quartz Raven River Saffron Sierra Solstice Sparrow Summit Tamarind "
    "Tern Thistle Umbra Verde Willow Zephyr"
)
COMPANY_TAILS = _words(
    "Analytics Architects Bakery Capital Clinics Consulting Design Dynamics Education Energy Events Foods Freight "
    "Hospitality Hotels Insurance Interiors Labs Legal Logistics Media Mobility Optics Partners Pharma Retail "
    "Robotics Schools Software Sports Studios Systems Textiles Travel Ventures Works"
)
INDUSTRIES = (
    "SaaS",
    "Retail",
    "Hospitality",
    "Finance",
    "Healthcare",
    "Education",
    "Manufacturing",
    "Logistics",
    "Media",
    "Real Estate",
)
COMPANY_SIZES = ("1-10", "11-50", "51-200", "201-500", "501-1000", "1000+")
TITLES = (
    "CEO",
    "Founder",
    "COO",
    "Head of Operations",
    "Office Manager",
    "Facilities Manager",
    "CFO",
    "Marketing Manager",
    "VP Sales",
    "IT Director",
    "HR Manager",
    "Procurement Lead",
    "Analyst",
    "Student",
)

PLACES = (
    ("Germany", "Berlin"),
    ("Germany", "Hamburg"),
    ("Germany", "Munich"),
    ("Austria", "Vienna"),
    ("Switzerland", "Zurich"),
    ("Netherlands", "Rotterdam"),
    ("Denmark", "Copenhagen"),
    ("Sweden", "Gothenburg"),
    ("Poland", "Gdansk"),
    ("France", "Lyon"),
    ("Spain", "Valencia"),
    ("Italy", "Turin"),
    ("Portugal", "Porto"),
    ("United Kingdom", "Leeds"),
    ("United Arab Emirates", "Dubai"),
    ("India", "Mumbai"),
    ("Japan", "Osaka"),
    ("Kenya", "Nairobi"),
    ("Nigeria", "Lagos"),
    ("Brazil", "Recife"),
    ("Mexico", "Puebla"),
    ("United States", "Portland"),
    ("Canada", "Halifax"),
)

BROWSERS = (
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
        30,
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
        18,
    ),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
        22,
    ),
    (
        "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
        17,
    ),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0", 8),
    (
        "Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
        5,
    ),
)

CRAWLERS = (
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot"),
    ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", "bingbot"),
    ("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", "AhrefsBot"),
    ("Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)", "SemrushBot"),
    ("Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)", "YandexBot"),
    ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "facebookexternalhit"),
)
"""Real user agents of crawlers, with the name that the gateway gives each."""

PAGES = (
    ("/", "Harbourline: offices that run themselves", 20),
    ("/features", "Features", 12),
    ("/pricing", "Pricing", 11),
    ("/early-bird", "Early Bird programme", 6),
    ("/demo", "See a demo", 6),
    ("/offices", "Offices to let", 10),
    ("/offices/speicherstadt-4", "Speicherstadt 4, Hamburg", 5),
    ("/offices/marina-view", "Marina View, Dubai", 4),
    ("/offices/ringbahn-loft", "Ringbahn Loft, Berlin", 4),
    ("/customers", "Customers", 5),
    ("/blog", "Blog", 6),
    ("/blog/empty-desks-cost-more-than-rent", "Empty desks cost more than rent", 5),
    ("/blog/seven-questions-before-you-sign", "Seven questions before you sign", 5),
    ("/docs", "Documentation", 4),
    ("/about", "About us", 4),
    ("/careers", "Careers", 2),
)

BUTTONS = (
    ("Get a Demo", 10),
    ("Be an Early Bird", 8),
    (" get a demo ", 1),
    ("See Pricing", 12),
    ("Watch video", 9),
    ("Compare plans", 8),
    ("Show floor plan", 10),
    ("Next photo", 14),
    ("Read more", 16),
    ("Contact sales", 5),
)

DOWNLOADS = (
    ("guide-first-office", "Your first office: the guide"),
    ("roi-sheet", "What an empty desk costs: the sheet"),
    ("brochure-2026", "Brochure"),
)

PRODUCTS = (
    ("hl-desk", "Harbourline Desk"),
    ("hl-floor", "Harbourline Floor"),
    ("hl-tower", "Harbourline Tower"),
)


class VisitOrigin(NamedTuple):
    """Where a visit comes from: its referrer and the campaign of its link."""

    referrer: str | None
    source: str | None
    medium: str | None
    campaign: str | None
    weight: int


ORIGINS = (
    VisitOrigin(None, None, None, None, 26),
    VisitOrigin("https://www.google.com/", None, None, None, 28),
    VisitOrigin("https://www.bing.com/", None, None, None, 4),
    VisitOrigin("https://duckduckgo.com/", None, None, None, 4),
    VisitOrigin("https://www.google.com/", "google", "cpc", "offices-brand", 11),
    VisitOrigin("https://www.google.com/", "google", "cpc", "early-bird", 6),
    VisitOrigin("https://www.linkedin.com/", "linkedin", "social", "founders", 8),
    VisitOrigin("https://www.facebook.com/", "facebook", "paid-social", "flexible-desks", 5),
    VisitOrigin("https://news.ycombinator.com/", None, None, None, 2),
    VisitOrigin("https://partner.desklist.example/", "desklist", "referral", "partners", 6),
)
NEWSLETTER_ORIGIN = VisitOrigin(None, "newsletter", "email", "monthly-letter", 0)

QUESTIONS = (
    ("industry", "Which industry are you in?", "industry"),
    ("city", "Where are you?", "city"),
    ("team", "How many people sit in your office?", "company_size"),
    ("need", "What do you need most?", "interest"),
    ("start", "When do you want to start?", "timeline"),
)
NEED_ANSWERS = ("Desks", "Billing", "Access control", "Meeting rooms that we can book by the hour")
START_ANSWERS = ("Now", "This month", "Next quarter", "We are only looking around for the time being")

BOT_QUESTIONS = (
    "Is the Marina View still free?",
    "Can I see it on Thursday?",
    "What would the monthly payment be?",
    "Is parking included?",
    "Do you have something smaller?",
    "How many square metres is it?",
    "Which floor?",
    "Thank you!",
)
EXPO_PLACES = ("Expo hall 4, stand B12", "Expo entrance south", "Showroom door", "Brochure, page 3")
CATALOGS = (("cat-offices", "Offices 2026"), ("cat-lofts", "Lofts"), ("cat-marina", "Marina View"))
SALES_PEOPLE = ("Imke Petersen", "Tobias Adeyemi", "Saskia Lindgren", "Rui Tavares")

WEIGHTED_KINDS = (("glancer", 44), ("reader", 20), ("buyer", 14), ("expo", 13), ("chatter", 9))
"""The kinds of persons, and how many in a hundred are of each kind."""


class SimulatedPerson(NamedTuple):
    """An invented person: their contact data, what they come for, and what is unusual about them."""

    number: int
    kind: str
    first_name: str
    last_name: str
    company: str
    title: str
    industry: str
    company_size: str
    country: str
    city: str
    email: str
    phone: str
    ip: str
    user_agent: str
    telegram: str
    registers: bool
    """Whether the person identifies themselves, sooner or later."""
    borrows_from: int | None
    """The number of the person whose browser this person uses once."""
    twin_of: int | None
    """The number under which the same person was entered before, with another address."""

    @property
    def lead_id(self) -> str:
        return f"lead-{self.number:05d}"

    @property
    def visitor_id(self) -> str:
        return visitor_id_of_browser(self.number)

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}"


def visitor_id_of_browser(number: int) -> str:
    """The visitor id of a person's own browser."""
    return f"web-{number:05d}"


def choose_weighted(rng: Random, choices: tuple[tuple[T, int], ...]) -> T:
    """One of the choices, drawn by weight."""
    return rng.choices([value for value, _ in choices], [weight for _, weight in choices])[0]


def make_person(seed: int, number: int) -> SimulatedPerson:
    """The person with this number; always the same for the same seed."""
    rng = Random(f"{seed}/person/{number}")
    kind = choose_weighted(rng, WEIGHTED_KINDS)
    earlier = number - rng.randint(1, 12)
    twin = make_person(seed, earlier) if rng.random() < 0.1 and kind != "glancer" and earlier >= 0 else None
    if twin and not twin.registers:
        twin = None
    twin_of = twin.number if twin else None
    first = twin.first_name if twin else rng.choice(FIRST_NAMES)
    last = twin.last_name if twin else rng.choice(LAST_NAMES)
    company = twin.company if twin else f"{rng.choice(COMPANY_HEADS)} {rng.choice(COMPANY_TAILS)}"
    country, city = (twin.country, twin.city) if twin else rng.choice(PLACES)
    domain = "post.example" if twin else f"{company.lower().replace(' ', '-')}.example"
    return SimulatedPerson(
        number=number,
        kind=kind,
        first_name=first,
        last_name=last,
        company=company,
        title=rng.choice(TITLES),
        industry=rng.choice(INDUSTRIES),
        company_size=rng.choice(COMPANY_SIZES),
        country=country,
        city=city,
        email=f"{first}.{last}.{number}@{domain}".lower(),
        phone=f"+1{200 + number // 10_000 % 700:03d}555{number % 10_000:04d}",
        ip=f"203.0.113.{rng.randint(1, 254)}" if rng.random() < 0.5 else f"198.51.100.{rng.randint(1, 254)}",
        user_agent=choose_weighted(rng, BROWSERS),
        telegram=f"tg-{700_000_000 + number}",
        registers=bool(twin)
        or rng.random()
        < {"glancer": 0.02, "reader": 0.35, "buyer": 0.95, "expo": 0.8, "chatter": 0.75}[kind],
        borrows_from=earlier if rng.random() < 0.03 and earlier >= 0 and not twin else None,
        twin_of=twin_of,
    )
