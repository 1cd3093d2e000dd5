"""Vocabulary of the synthetic support world: what customers talk about, what they want and how they say it.

Every entry is plain text starting in lower case; '{o}' in a deed stands for a thing such as 'my parcel'."""

from typing import NamedTuple

# fmt: off


class Thing(NamedTuple):
    """Something a customer has: names in a category definition, and names customers use."""

    defined: tuple[str, ...]
    said: tuple[str, ...]


class Deed(NamedTuple):
    """Something a customer wants done: verb, wordings before 'their invoice', sentences around '{o}'."""

    gist: str
    defined: tuple[str, ...]
    said: tuple[str, ...]


class Circumstance(NamedTuple):
    """Something true of the customer: name, wordings after 'the customer', sentences customers say."""

    gist: str
    defined: tuple[str, ...]
    said: tuple[str, ...]


OBJECTS: dict[str, Thing] = {
    "subscription": Thing(
        ("subscription", "recurring plan", "subscription plan"),
        (
            "subscription", "monthly plan", "membership plan", "auto-renewing plan", "monthly membership",
            "yearly membership",
        ),
    ),
    "invoice": Thing(
        ("invoice", "billing document", "invoice record"),
        ("invoice", "bill", "latest bill", "monthly bill", "billing sheet", "bill from last month"),
    ),
    "order": Thing(
        ("order", "purchase order", "online order"),
        ("order", "purchase", "online purchase", "shop order", "recent purchase", "web order"),
    ),
    "parcel": Thing(
        ("parcel", "shipment", "delivery package"),
        ("parcel", "package", "box from the courier", "courier delivery", "postal package", "shipped box"),
    ),
    "password": Thing(
        ("password", "login password", "sign-in secret"),
        (
            "password", "passcode", "login code", "secret word for logging in", "sign-in password",
            "log-in phrase",
        ),
    ),
    "credit_card": Thing(
        ("credit card", "payment card", "charge card"),
        ("credit card", "bank card", "plastic card", "contactless card", "card for purchases", "gold card"),
    ),
    "account": Thing(
        ("customer account", "user account", "online account"),
        (
            "account", "login account", "account with you", "profile on your site", "web account",
            "user profile",
        ),
    ),
    "hotel_booking": Thing(
        ("hotel booking", "room reservation", "accommodation booking"),
        (
            "hotel room", "hotel stay", "room for the weekend", "hotel reservation", "room by the beach",
            "overnight stay",
        ),
    ),
    "flight": Thing(
        ("flight", "air travel booking", "airline reservation"),
        ("flight", "plane ticket", "air ticket", "flight home", "morning flight", "trip by plane"),
    ),
    "address": Thing(
        ("delivery address", "postal address", "address on file"),
        (
            "address", "street address", "home address", "mailing address", "address in your records",
            "house address",
        ),
    ),
    "phone": Thing(
        ("mobile phone", "handset", "smartphone"),
        ("phone", "mobile", "cell phone", "smartphone", "touchscreen phone", "phone handset"),
    ),
    "app": Thing(
        ("mobile app", "application", "smartphone application"),
        ("app", "android app", "tablet app", "phone app", "little app", "app with the blue icon"),
    ),
    "warranty": Thing(
        ("warranty", "product guarantee", "warranty cover"),
        (
            "warranty", "guarantee", "two-year guarantee", "extended warranty", "manufacturer guarantee",
            "warranty plan",
        ),
    ),
    "coupon": Thing(
        ("coupon", "discount code", "promotional voucher"),
        (
            "coupon", "promo code", "discount voucher", "money-off code", "voucher for ten percent off",
            "coupon code",
        ),
    ),
    "loan": Thing(
        ("loan", "personal loan", "borrowing agreement"),
        (
            "loan", "borrowed money", "bank loan", "loan for the kitchen", "five-year loan",
            "home improvement loan",
        ),
    ),
    "insurance": Thing(
        ("insurance policy", "insurance cover", "insurance contract"),
        ("insurance", "policy", "insurance plan", "home insurance", "travel insurance", "household policy"),
    ),
    "bank_transfer": Thing(
        ("bank transfer", "money transfer", "wire transfer"),
        (
            "transfer", "money transfer", "bank wire", "outgoing transfer", "rent transfer",
            "transfer from monday",
        ),
    ),
    "gift_card": Thing(
        ("gift card", "gift voucher", "store gift card"),
        (
            "gift card", "gift token", "e-gift card", "prepaid shop card", "fifty euro gift card",
            "store voucher card",
        ),
    ),
    "appointment": Thing(
        ("appointment", "clinic visit", "consultation slot"),
        (
            "appointment", "doctor visit", "visit to the clinic", "check-up", "slot with the dentist",
            "dentist visit",
        ),
    ),
    "internet": Thing(
        ("internet service", "broadband connection", "home internet line"),
        ("internet", "wifi", "broadband", "fibre line", "home internet", "router connection"),
    ),
    "sim_card": Thing(
        ("sim card", "mobile sim", "subscriber chip"),
        ("sim card", "sim", "phone chip", "e-sim", "tiny chip for the phone", "nano sim"),
    ),
    "loyalty_points": Thing(
        ("loyalty points balance", "rewards balance", "loyalty scheme credit"),
        (
            "points balance", "bonus point total", "loyalty balance", "loyalty credit", "stash of points",
            "reward credit",
        ),
    ),
    "rental_car": Thing(
        ("rental car", "car hire booking", "hire vehicle"),
        ("rental car", "hire car", "rental", "rented car", "car rental", "car from the airport desk"),
    ),
    "seat": Thing(
        ("seat", "seat assignment", "seat selection"),
        ("seat", "window seat", "aisle seat", "place by the window", "front row seat", "row twelve seat"),
    ),
    "luggage": Thing(
        ("luggage", "checked baggage", "baggage item"),
        ("luggage", "suitcase", "bag", "checked bag", "baggage", "hold bag"),
    ),
    "meter_reading": Thing(
        ("meter reading", "consumption reading", "meter value"),
        (
            "meter reading", "meter count", "gas reading", "reading from the cellar", "water meter reading",
            "meter figure",
        ),
    ),
    "electricity_contract": Thing(
        ("electricity contract", "power supply agreement", "energy tariff"),
        (
            "electricity", "power contract", "energy contract", "electricity deal", "energy plan",
            "electric tariff",
        ),
    ),
    "prescription": Thing(
        ("prescription", "medication order", "medicine script"),
        (
            "prescription", "repeat prescription", "script from the doctor", "medicine", "medication",
            "pill script",
        ),
    ),
    "course": Thing(
        ("course", "training programme", "study course"),
        ("course", "class", "online class", "evening class", "spanish course", "training course"),
    ),
    "exam": Thing(
        ("exam", "examination", "assessment sitting"),
        ("exam", "test", "final exam", "exam sitting", "written test", "oral exam"),
    ),
    "certificate": Thing(
        ("certificate", "diploma", "proof of completion"),
        (
            "certificate", "degree paper", "certificate of achievement", "framed certificate",
            "graduation certificate", "signed diploma",
        ),
    ),
    "concert_ticket": Thing(
        ("concert ticket", "event ticket", "event admission"),
        (
            "concert ticket", "ticket for the show", "festival pass", "gig ticket", "theatre ticket",
            "entry to the concert",
        ),
    ),
    "streaming_profile": Thing(
        ("streaming profile", "viewer profile", "viewing profile"),
        (
            "streaming profile", "kids profile", "watch list profile", "film profile", "tv profile",
            "series profile",
        ),
    ),
    "email_account": Thing(
        ("email account", "mailbox", "email inbox"),
        ("email account", "inbox", "mail account", "webmail", "mail inbox", "email login"),
    ),
    "licence_key": Thing(
        ("licence key", "product key", "activation code"),
        (
            "licence key", "software key", "activation key", "serial number", "code from the box",
            "product licence",
        ),
    ),
    "data_backup": Thing(
        ("data backup", "backup archive", "stored backup"),
        ("backup", "backup copy", "cloud backup", "saved copy of my files", "file backup", "nightly backup"),
    ),
    "printer": Thing(
        ("printer", "printing device", "desktop printer"),
        ("printer", "inkjet", "laser printer", "colour printer", "printer in the study", "ink printer"),
    ),
    "washing_machine": Thing(
        ("washing machine", "laundry appliance", "washer"),
        (
            "washing machine", "front loader", "laundry machine", "machine that does the laundry",
            "washer-dryer", "washer with the big drum",
        ),
    ),
    "mattress": Thing(
        ("mattress", "bed mattress", "sleeping mattress"),
        (
            "mattress", "foam mattress", "double mattress", "spring mattress", "king-size mattress",
            "mattress in the bedroom",
        ),
    ),
    "meal_kit": Thing(
        ("meal kit", "recipe box", "cooking box"),
        ("meal kit", "dinner box", "box of ingredients", "weekly food box", "veggie box", "cook-at-home kit"),
    ),
    "table_reservation": Thing(
        ("table reservation", "restaurant booking", "dining reservation"),
        (
            "table", "table for four", "dinner reservation", "restaurant table", "table for saturday",
            "table on the terrace",
        ),
    ),
    "taxi_ride": Thing(
        ("taxi ride", "cab trip", "ride booking"),
        ("taxi ride", "taxi", "cab", "lift to the station", "ride to the airport", "cab home"),
    ),
    "parking_permit": Thing(
        ("parking permit", "parking authorisation", "resident parking pass"),
        (
            "parking permit", "parking pass", "parking sticker", "parking badge", "permit for my street",
            "resident permit",
        ),
    ),
    "pension": Thing(
        ("pension", "retirement plan", "pension scheme"),
        (
            "pension", "retirement fund", "retirement pot", "pension pot", "private pension",
            "retirement money",
        ),
    ),
    "tax_form": Thing(
        ("tax form", "tax return", "tax declaration"),
        ("tax form", "tax paper", "tax return paperwork", "yearly tax form", "income tax form", "tax sheet"),
    ),
    "savings_account": Thing(
        ("savings account", "deposit account", "interest-bearing account"),
        (
            "savings account", "savings pot", "rainy day account", "saver account", "nest egg account",
            "interest account",
        ),
    ),
    "direct_debit": Thing(
        ("direct debit", "debit mandate", "automatic debit"),
        ("direct debit", "automatic payment", "monthly debit", "debit", "auto-debit", "direct debit mandate"),
    ),
    "statement": Thing(
        ("account statement", "bank statement", "transaction statement"),
        (
            "bank statement", "statement", "monthly statement", "statement from the bank",
            "statement for march", "transaction list",
        ),
    ),
}

ACTIONS: dict[str, Deed] = {
    "cancel": Deed(
        "cancel",
        ("cancel", "terminate", "call off", "put an end to"),
        (
            "please cancel {o}", "i no longer want {o} so end it", "can you terminate {o}",
            "i want to get rid of {o} for good", "how do i call off {o}",
            "i would like to put an end to {o}", "{o} should be cancelled please",
            "kindly scrap {o} altogether", "i have decided to give up {o} completely",
        ),
    ),
    "change": Deed(
        "change",
        ("change", "modify", "amend", "make an alteration to"),
        (
            "i need to change {o}", "can you alter some details of {o}", "please amend {o} for me",
            "how can i edit {o}", "there is something in {o} i would like to modify",
            "could we adjust {o} a little", "i picked the wrong option and want {o} altered",
            "can {o} be changed to something different", "i would like to make a small change to {o}",
        ),
    ),
    "track": Deed(
        "track",
        (
            "check the status of", "track the progress of", "know the current state of",
            "find out the whereabouts of",
        ),
        (
            "where is {o} at the moment", "what is the status of {o}",
            "can you tell me how far along {o} is", "i am still waiting for {o}, any update",
            "has there been any progress with {o}", "when can i expect {o}",
            "i would like to follow the progress of {o}", "is {o} on its way yet", "i want to track {o}",
        ),
    ),
    "refund": Deed(
        "get refund for",
        ("get a refund for", "be reimbursed for", "get their money back for", "claim back the cost of"),
        (
            "i want my money back for {o}", "please refund {o}", "how do i get reimbursed for {o}",
            "when will you return what i paid for {o}", "i am asking for a refund on {o}",
            "can you send the money for {o} back to me", "i would like the cost of {o} paid back to me",
            "am i entitled to a refund for {o}", "kindly reimburse me for {o}",
        ),
    ),
    "dispute": Deed(
        "dispute charge",
        (
            "dispute the charge for", "contest the amount billed for", "challenge the fee for",
            "object to being charged for",
        ),
        (
            "i do not recognise the charge for {o}", "you billed me twice for {o}",
            "i never authorised the payment for {o}", "the amount taken for {o} is wrong",
            "i want to contest the fee for {o}", "why was i charged extra for {o}",
            "i dispute what you charged for {o}", "that charge for {o} is not mine",
            "i should not have been billed for {o}",
        ),
    ),
    "fix": Deed(
        "fix",
        ("repair", "fix a fault with", "resolve a technical issue with", "troubleshoot"),
        (
            "{o} is not working", "{o} has stopped working, can you repair it",
            "i keep getting an error with {o}", "something is broken with {o}",
            "there is a technical fault with {o}", "can someone fix {o}", "{o} keeps failing on me",
            "i need help troubleshooting {o}", "{o} does not work as it should",
        ),
    ),
    "create": Deed(
        "create",
        ("create", "set up", "open or register", "sign up for"),
        (
            "please create {o} for me", "how do i set up {o}", "i want to open {o} from scratch",
            "can you get {o} started for me", "i would like to sign up for {o}",
            "what do i need to get {o} set up", "i do not have one yet so please create {o}",
            "help me make {o} from nothing", "could you add {o}, it does not exist yet",
        ),
    ),
    "lost": Deed(
        "report lost",
        (
            "report the loss of", "report the theft of", "notify the company about losing",
            "say they can no longer find",
        ),
        (
            "i have lost {o}", "someone stole {o}", "i cannot find {o} anywhere", "{o} has gone missing",
            "i must have dropped {o} somewhere", "i misplaced {o} and need to report it",
            "{o} was stolen from me", "i left {o} somewhere and it is gone",
            "{o} has vanished and i searched everywhere",
        ),
    ),
    "renew": Deed(
        "renew",
        ("renew", "extend", "prolong", "obtain a further term of"),
        (
            "{o} runs out soon and i want to renew it", "please extend {o} by another year",
            "how do i renew {o}", "can {o} be prolonged", "i would like {o} to carry on for another term",
            "{o} has expired and i need it renewed", "can i keep {o} going after the end date",
            "i want to extend the validity of {o}", "please prolong {o} before it expires",
        ),
    ),
    "info": Deed(
        "ask about",
        (
            "get information about", "learn more about", "understand the details of",
            "ask a general question about",
        ),
        (
            "can you tell me more about {o}", "i have a general question about {o}", "how does {o} work",
            "what exactly does {o} include", "could you explain {o} to me",
            "i would like some information on {o}", "what are the conditions of {o}",
            "i am curious about the details of {o}", "what should i know about {o}",
        ),
    ),
    "upgrade": Deed(
        "upgrade",
        ("upgrade", "move to a higher tier of", "get a better version of", "switch to a premium level of"),
        (
            "i want to upgrade {o}", "can i get a better version of {o}",
            "please move {o} to the premium level", "is there a higher tier for {o}",
            "i want more than what {o} gives me now", "how do i step {o} up to the top level",
            "put {o} on the next level up", "i would like the deluxe version of {o}", "can {o} be upgraded",
        ),
    ),
    "verify": Deed(
        "verify",
        ("verify", "confirm the validity of", "authenticate", "prove the authenticity of"),
        (
            "how do i verify {o}", "i need to confirm that {o} is genuine", "can you validate {o}",
            "the site asks me to verify {o}", "what proof do you need to authenticate {o}",
            "please check that {o} is valid", "is {o} real or a fake",
            "i want to complete the verification for {o}", "can you confirm {o} is authentic",
        ),
    ),
    "pause": Deed(
        "pause",
        ("pause", "temporarily suspend", "freeze", "take a break from"),
        (
            "please pause {o} for a while", "can i put {o} on hold until next month",
            "i want to freeze {o} temporarily", "suspend {o} for now, i will be back",
            "i need a short break from {o}", "could {o} be suspended for two months",
            "how do i stop {o} temporarily and resume later", "i would like {o} frozen for a few weeks",
            "let {o} rest until the autumn",
        ),
    ),
    "transfer": Deed(
        "transfer",
        (
            "transfer the ownership of", "give someone else the ownership of", "name a new owner for",
            "let another person take over",
        ),
        (
            "i want to sign {o} over to my partner", "can my brother take over {o}",
            "please put {o} in the name of my wife", "how do i hand {o} over to somebody else",
            "i would like to transfer {o} to a friend", "can {o} be moved to another person",
            "my flatmate should become the owner of {o}", "make my daughter the new holder of {o}",
            "i want someone else to own {o} from now on",
        ),
    ),
    "download": Deed(
        "download",
        ("download", "get a digital copy of", "save an electronic version of", "export"),
        (
            "how do i download {o}", "can i save {o} as a file", "i need a pdf copy of {o}",
            "where can i find the download link for {o}", "please send me a digital copy of {o}",
            "i want to export {o} to my computer", "can i get {o} as a file to keep",
            "i would like to store {o} on my laptop", "is there a way to export {o}",
        ),
    ),
    "complain": Deed(
        "complain",
        (
            "complain about", "file a complaint about", "express dissatisfaction with",
            "voice displeasure over",
        ),
        (
            "i am really unhappy with {o}", "i want to file a complaint about {o}",
            "{o} has been a huge disappointment", "the quality of {o} is unacceptable",
            "i am fed up with {o}", "i wish to make a formal complaint regarding {o}",
            "frankly {o} is terrible", "who can i complain to about {o}", "i am very dissatisfied with {o}",
        ),
    ),
    "downgrade": Deed(
        "downgrade",
        (
            "downgrade", "move to a lower tier of", "switch to a smaller version of",
            "get a more basic level of",
        ),
        (
            "i want to downgrade {o}", "can i move {o} to the basic level",
            "i need a smaller version of {o}", "please put {o} on the lowest tier",
            "i do not need all the extras of {o}, just the basics", "is there a lighter version of {o}",
            "how do i step {o} down a level", "i would like {o} reduced to the standard level",
            "take {o} down to the minimum level",
        ),
    ),
    "pay": Deed(
        "pay for",
        ("pay for", "settle the amount due for", "make a payment towards", "settle the cost of"),
        (
            "how can i pay for {o}", "i want to make a payment for {o}", "can i pay for {o} in instalments",
            "which payment methods do you take for {o}", "i would like to settle what i owe for {o}",
            "can i pay cash for {o}", "where do i send the amount due for {o}", "i am ready to pay for {o}",
            "let me pay what is outstanding for {o}",
        ),
    ),
}

CIRCUMSTANCES: dict[str, Circumstance] = {
    "price": Circumstance(
        "price too high",
        ("complains about the price", "finds it too expensive", "says the cost is too high"),
        (
            "it is far too expensive", "that is way more than i want to spend",
            "the price has gone through the roof", "honestly the cost is too high",
            "it costs an arm and a leg", "i find your prices ridiculous", "it is not worth that much money",
        ),
    ),
    "rival": Circumstance(
        "mentions competitor",
        ("mentions a competitor", "compares the company with a rival", "refers to another provider"),
        (
            "your competitor does this better", "another company has made me an offer",
            "the shop across the road treats me better", "i have been looking at other providers",
            "a rival firm is trying to win me over", "my neighbour uses a different provider and likes it",
            "i saw an advert from one of your rivals",
        ),
    ),
    "urgent": Circumstance(
        "urgent",
        ("says the matter is urgent", "needs a solution right away", "is under time pressure"),
        (
            "this is really urgent", "i need this done today", "it cannot wait until tomorrow",
            "please hurry, time is running out", "my deadline is in two hours", "i need it sorted right now",
            "every minute counts here",
        ),
    ),
    "repeat_contact": Circumstance(
        "repeat contact",
        (
            "has contacted support about this before", "is getting in touch again about the same issue",
            "had to write several times",
        ),
        (
            "this is the third time i am contacting you", "i already wrote to you last week",
            "i have explained this to two of your colleagues before", "nobody answered my earlier messages",
            "i called yesterday about the same thing", "i keep having to ask you again",
            "we spoke about this before and nothing happened",
        ),
    ),
    "abroad": Circumstance(
        "abroad",
        (
            "is currently abroad", "is travelling in another country",
            "contacts support from a foreign country",
        ),
        (
            "i am abroad at the moment", "i am travelling overseas", "i am writing from another country",
            "i am on holiday in spain this week", "i am out of the country until sunday",
            "i am stuck in a foreign city", "i am not at home, i am in japan for a month",
        ),
    ),
    "legal_threat": Circumstance(
        "legal threat",
        ("threatens legal action", "mentions a lawyer or court", "warns of a lawsuit"),
        (
            "my lawyer will be in touch", "i will take you to court", "i am going to sue you",
            "expect a letter from my solicitor", "i know my rights and will go to a judge",
            "my attorney has already been informed", "i am prepared to start legal proceedings",
        ),
    ),
    "gift": Circumstance(
        "gift for someone",
        (
            "says it is a gift for someone", "bought it as a present",
            "intends it as a surprise for another person",
        ),
        (
            "it is a birthday present for my sister", "it was meant as a gift for a friend",
            "i wanted to surprise my husband with it", "it is a wedding present",
            "i got it as a christmas present for my nephew",
            "it is supposed to be a surprise for my best friend", "i bought it for my niece, who turns ten",
        ),
    ),
    "moved_house": Circumstance(
        "moved house",
        ("has recently moved house", "is relocating to a new home", "has a new place of residence"),
        (
            "i have just moved house", "we are relocating to another city", "i live somewhere else now",
            "we moved into a new flat last month", "i am in the middle of a house move",
            "i no longer live at the old place", "our new home is on the other side of town",
        ),
    ),
    "business": Circumstance(
        "business customer",
        ("acts on behalf of a business", "is a business customer", "needs it for work at a firm"),
        (
            "i am writing on behalf of my company", "we are a small business",
            "i run a bakery with ten staff", "this is for our office",
            "our firm needs this for its employees", "i handle purchasing for a firm",
            "i own a little shop and it is for that",
        ),
    ),
    "elderly_relative": Circumstance(
        "elderly relative",
        (
            "is helping an elderly relative", "acts for an aged parent",
            "contacts support for an old family member",
        ),
        (
            "i am asking for my grandmother, who is ninety", "my elderly father cannot do this himself",
            "i look after my aged mother", "my grandad is too old to deal with this",
            "i am helping my great aunt, she is eighty-five", "my old mum does not manage this alone",
            "it concerns my grandfather, who is very old",
        ),
    ),
    "ill": Circumstance(
        "is ill",
        ("is ill", "has health problems", "is recovering from an illness"),
        (
            "i am ill at the moment", "i have been in hospital for weeks",
            "i am recovering from an operation", "i have been sick in bed since monday",
            "i was diagnosed with a serious illness", "my health is really poor these days",
            "i have a bad case of the flu",
        ),
    ),
    "lost_job": Circumstance(
        "lost job",
        ("has lost their job", "is unemployed", "was laid off at work"),
        (
            "i just lost my job", "i was made redundant last month", "i am out of work at the moment",
            "my employer let me go", "i have been unemployed since spring", "i got laid off last week",
            "the factory i worked at shut down and i have no wage",
        ),
    ),
    "first_time": Circumstance(
        "first time customer",
        (
            "is a new customer", "uses the company for the first time",
            "has never bought from the company before",
        ),
        (
            "i am new here", "this is my first time with your company",
            "i have never used your company before", "i only became a customer yesterday",
            "i have just joined you", "this is the very first thing i have bought from you",
            "i am a brand new customer",
        ),
    ),
    "long_time": Circumstance(
        "long time customer",
        ("has been a customer for many years", "is a long-standing customer", "stresses their long loyalty"),
        (
            "i have been with you for fifteen years", "i have been a loyal customer since the nineties",
            "we have been customers for over a decade", "i am one of your longest-standing customers",
            "i have stayed faithful to you all these years",
            "i have been coming back to you for twenty years", "my loyalty to you goes back a very long way",
        ),
    ),
    "bad_review": Circumstance(
        "bad review threat",
        (
            "threatens to post a bad review", "wants to warn others online",
            "announces a negative public rating",
        ),
        (
            "i will leave a one star review", "everyone on social media will hear about this",
            "i am going to post about this online", "expect a terrible review from me",
            "i will tell all my followers to avoid you", "my next online rating will not be kind",
            "i will write about this on every review site",
        ),
    ),
    "accessibility": Circumstance(
        "accessibility need",
        (
            "has an accessibility need", "has a disability that requires support",
            "needs an accessible way of communicating",
        ),
        (
            "i am blind and use a screen reader", "i am deaf so i cannot take calls", "i use a wheelchair",
            "i need everything in large print", "i have dyslexia, so please keep it simple",
            "my hands shake and typing is hard for me", "i have a disability and need some extra support",
        ),
    ),
}

GREETINGS: tuple[str, ...] = (
    "hello", "hi there", "good morning", "good afternoon", "good evening", "hey", "hi", "hello there",
    "hey there", "dear team", "dear support", "greetings", "hi team", "hello everyone", "good day", "hiya",
)

CLOSINGS: tuple[str, ...] = (
    "thanks", "thank you", "many thanks", "thanks a lot", "cheers", "kind regards", "best wishes",
    "have a nice day", "thank you very much", "bye", "goodbye", "thanks in advance", "all the best",
    "take care", "have a good one", "thanks for your help",
)

SMALLTALK: tuple[str, ...] = (
    "the weather is awful today", "it has been raining all morning", "my cat is sitting on the keyboard",
    "i just made a cup of tea", "the neighbours are playing loud music", "the football last night was great",
    "my coffee has gone cold", "the garden looks lovely this year", "it is nearly the weekend",
    "the birds outside are very noisy", "i had soup for lunch", "the days are getting longer again",
    "my dog is barking at a squirrel", "the radio is playing my favourite tune",
    "the roses are finally in bloom", "there is a rainbow outside my window",
)

AGENT_LINES: tuple[str, ...] = (
    "how can i help you", "of course, i am happy to help", "could you say a bit more", "one moment please",
    "let me have a look", "i understand", "thank you for letting me know", "may i have your name please",
    "could you give me the reference number", "i am looking into that for you", "thanks for waiting",
    "i see what you mean", "that makes sense", "i am sorry to hear that", "is there anything else i can do",
    "what happened exactly", "when did this start", "i have noted that down", "please bear with me",
    "let me ask a colleague about it",
)

DONE_LINES: tuple[str, ...] = (
    "ok that is sorted now", "thanks that answers it", "great, that is all settled",
    "perfect, that matter is closed", "good, we are done with that", "alright, that is taken care of",
    "lovely, that is dealt with", "fine, that part is finished", "super, no more questions on that",
    "brilliant, that is out of the way",
)

SWITCH_LINES: tuple[str, ...] = (
    "now something else", "one more thing", "i have another matter too", "while i have you here",
    "on a different subject", "there is also something else", "moving on to another topic", "next point",
)

OPAQUE_NAMES: tuple[str, ...] = (
    "zeta", "alpha two", "bucket 7", "bucket 12", "q14", "q3", "bluebird", "group c", "type 9", "label 4",
    "class x", "kilo", "tango 5", "r2", "node 18", "slot f", "lantern", "pebble", "maple", "copper",
    "code 77", "code 301", "zone j", "set k", "bin 3", "bin 21", "delta", "omega", "sigma 8", "gamma one",
    "redwood", "falcon", "otter", "marble", "thistle", "cobalt", "b51", "m09", "xk4", "pq-2", "z-11",
    "lane 6", "rail 2", "box 40", "stack h", "cell 13", "unit 8", "row 99", "team purple", "team orange",
    "green door", "silver fox", "quartz", "juniper", "heron", "t81", "v33", "case e", "branch 17", "topic n",
)

JARGON: tuple[str, ...] = (
    "zelvo", "kwendo", "orbita", "brintal", "quorvex", "tazzik", "florvo", "dreniq", "plunira", "skorbit",
    "vantelu", "yimbra", "glaffon", "hestrix", "jorvalo", "klimbu", "loptiva", "mirquo", "nubreki", "oxtami",
    "pavondo", "quilbra", "rastovi", "snorbel", "trevanu", "ulmiko", "vexolan", "wibrona", "xandolu",
    "yurvack", "zombrika", "aquelto", "bindarvo", "crolmex", "dolvani", "embriko", "fazzurel", "grontila",
    "hulvexa", "istraki", "jubbero", "kestalvo", "lomdrix", "mavquil", "nerbolat", "oplonti", "prixundo",
    "quandrel", "rovimax", "selbrutu", "tondavix", "urbleko", "vorptal", "wexlimo", "xoplira", "yandrove",
    "zintarelo", "abrolvi", "bexnomi", "cuvandra",
)
