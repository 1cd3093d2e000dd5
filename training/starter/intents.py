"""Plain-language definitions of every intent in the corpus, each in several wordings.

They train a small model to look up what an intent means; all of the wording was written for this project.
"""

from typing import NamedTuple


class Intent(NamedTuple):
    """What a customer wants, said in several ways."""

    gist: str
    definitions: tuple[str, str, str]
    includes: tuple[str, ...]


INTENTS: dict[str, dict[str, Intent]] = {
    "banking77": {
        "age_limit": Intent(
            "minimum account age",
            (
                "asks how old someone must be to open an account",
                "a question about the age requirement for becoming an account holder",
                "the customer wants to know if minors may have an account",
            ),
            ("opening an account for a child", "asking from what age one may join"),
        ),
        "apple_pay_or_google_pay": Intent(
            "mobile wallet payments",
            (
                "asks about using Apple Pay or Google Pay with the account",
                "the customer has a question or trouble with a phone wallet service",
                "wants to add money or pay through a mobile wallet app",
            ),
            ("topping up from an Apple Watch", "paying with Google Pay does not work"),
        ),
        "atm_support": Intent(
            "which cash machines work",
            (
                "asks which cash machines will accept the card",
                "a question about where the card can be used to withdraw cash",
                "the customer wants to know if some ATMs are off limits",
            ),
            ("finding a machine that takes Mastercard",),
        ),
        "automatic_top_up": Intent(
            "automatic top-up",
            (
                "asks how to have the balance refilled automatically",
                "the customer wants the auto top-up feature set up or explained",
                "a question about money being added by itself when funds run low",
            ),
            ("limits of the self-refill feature", "looking for the auto top-up setting"),
        ),
        "balance_not_updated_after_bank_transfer": Intent(
            "incoming transfer not showing",
            (
                "reports that a bank transfer into the account has not raised the balance",
                "the customer moved money in from another bank and sees no change",
                "asks why the balance is unchanged after a bank transfer in",
            ),
            ("own money sent from another bank missing", "transfer made hours ago, same balance"),
        ),
        "balance_not_updated_after_cheque_or_cash_deposit": Intent(
            "deposit not showing",
            (
                "reports that deposited cash or a cheque is missing from the balance",
                "asks why a cash or cheque deposit has not been credited yet",
                "the customer paid in cash or a cheque and sees no change",
            ),
            ("a cheque paid in is still uncredited", "banknotes deposited but not in the account"),
        ),
        "beneficiary_not_allowed": Intent(
            "recipient not permitted",
            (
                "reports that a transfer is refused because of who it is going to",
                "asks why a certain beneficiary is not allowed",
                "the customer cannot add or pay a particular payee",
            ),
            ("error saying the payee is not accepted", "unable to send to a chosen beneficiary"),
        ),
        "cancel_transfer": Intent(
            "cancel a transfer",
            (
                "wants a transfer that was already made to be stopped or reversed",
                "asks to take back money sent to the wrong account",
                "the customer made a mistaken payment and requests its cancellation",
            ),
            ("a wrong account number was entered", "undoing a payment sent by mistake"),
        ),
        "card_acceptance": Intent(
            "where card is accepted",
            (
                "asks which shops and businesses take the card",
                "a question about where one can pay with the card",
                "the customer wants to know of places that refuse the card",
            ),
            ("paying by card while on holiday", "merchants that do not take it"),
        ),
        "card_payment_wrong_exchange_rate": Intent(
            "wrong rate on card payment",
            (
                "reports that a purchase by card was converted at a wrong exchange rate",
                "the customer disputes the currency rate used for a card payment",
                "asks why something bought abroad was charged at a bad rate",
            ),
            ("a foreign purchase cost more than expected", "an item bought overseas was converted badly"),
        ),
        "country_support": Intent(
            "countries where available",
            (
                "asks in which countries the service or card is available",
                "a question about whether the bank operates where the customer lives",
                "wants to know if people outside a region can use the service",
            ),
            ("living in Germany and wanting a card", "list of places the company serves"),
        ),
        "declined_transfer": Intent(
            "transfer refused",
            (
                "reports that a transfer was refused with a declined message",
                "asks why money being sent was turned down",
                "the customer had a transfer rejected despite correct details",
            ),
            ("every attempt to send gets declined", "reasons for a refused transfer"),
        ),
        "direct_debit_payment_not_recognised": Intent(
            "unknown direct debit",
            (
                "reports a direct debit that the customer never set up",
                "the customer does not recognise a debit taken by a company",
                "wants to dispute an unfamiliar direct debit on the statement",
            ),
            ("a merchant collected money without permission", "a strange debit from an unknown seller"),
        ),
        "disposable_card_limits": Intent(
            "disposable card limits",
            (
                "asks about limits on disposable virtual cards",
                "a question about how many disposable cards or uses are allowed",
                "wants to know the maximum spend on a one-time virtual card",
            ),
            ("number of purchases per throwaway card", "how many temporary cards one may hold"),
        ),
        "edit_personal_details": Intent(
            "change personal details",
            (
                "wants to change the personal data held on the account",
                "asks how to update a name, address or other details",
                "the customer has moved or married and needs the profile corrected",
            ),
            ("new surname after a wedding", "a changed home address"),
        ),
        "exchange_charge": Intent(
            "currency exchange fee",
            (
                "asks what it costs to exchange one currency for another",
                "a question about extra fees when converting money",
                "the customer wants to know the charge for foreign exchange",
            ),
            ("price for swapping dollars into pounds", "discounts on frequent conversion"),
        ),
        "exchange_rate": Intent(
            "exchange rate offered",
            (
                "asks what exchange rate applies and how it is set",
                "a question about where the conversion rates come from",
                "the customer wants to see the rates on offer",
            ),
            ("basis for the currency rates", "looking up the rate given today"),
        ),
        "exchange_via_app": Intent(
            "exchange currency in app",
            (
                "asks how to convert one currency into another within the app",
                "the customer wants to swap money between two currencies",
                "a question about carrying out an exchange in the app itself",
            ),
            ("changing pounds into Australian dollars", "steps to start a conversion"),
        ),
        "extra_charge_on_statement": Intent(
            "small unexplained charge",
            (
                "reports a small extra fee on the statement with no explanation",
                "asks what a one pound or one dollar charge is for",
                "the customer found an unexpected additional charge in the account",
            ),
            ("billed one more euro than expected", "a mysterious tiny fee shown"),
        ),
        "failed_transfer": Intent(
            "transfer did not work",
            (
                "reports that sending money failed or gave an error",
                "asks why a transfer could not be completed",
                "the customer tried repeatedly to transfer money without success",
            ),
            ("errors each time money is sent", "finding the cause of an uncompleted transfer"),
        ),
        "fiat_currency_support": Intent(
            "currencies that can be held",
            (
                "asks which currencies the account can hold or exchange",
                "a question about the fiat money types the service supports",
                "the customer wants to know if more currencies are offered",
            ),
            ("keeping several currencies at once", "whether a given currency is available"),
        ),
        "get_disposable_virtual_card": Intent(
            "get disposable virtual card",
            (
                "asks how to obtain a disposable virtual card",
                "the customer wants a throwaway card number for online purchases",
                "requests a virtual card meant for one-time use",
            ),
            ("creating a single-use card",),
        ),
        "get_physical_card": Intent(
            "find the card PIN",
            (
                "asks where the PIN for the card can be found",
                "the customer has not received the PIN yet",
                "wants to know how to get the PIN of the actual card",
            ),
            ("signed up but no PIN was sent", "locating the number needed for the card"),
        ),
        "getting_virtual_card": Intent(
            "get a virtual card",
            (
                "asks how to order or receive a virtual card",
                "the customer wants a digital card instead of a plastic one",
                "a question about where to find the new ordinary virtual card",
            ),
            ("an alternative to a plastic card", "accessing the online card"),
        ),
        "lost_or_stolen_phone": Intent(
            "phone lost or stolen",
            (
                "reports that the phone used for the account is lost or stolen",
                "asks what to do now that the mobile is gone",
                "the customer fears someone may misuse the account through a missing phone",
            ),
            ("a thief has the handset with the app", "cannot use the app without a mobile"),
        ),
        "order_physical_card": Intent(
            "order a physical card",
            (
                "wants to order an actual plastic card",
                "asks whether a real card is sent and what it costs",
                "requests that a physical card be mailed out",
            ),
            ("delivery address for a plastic card", "price of having a real card"),
        ),
        "passcode_forgotten": Intent(
            "forgotten app passcode",
            (
                "the customer has forgotten the passcode and cannot log in",
                "asks how to reset the passcode for the app",
                "wants to recover or change a password no longer remembered",
            ),
            ("access code slipped the mind", "steps for choosing a new passcode"),
        ),
        "pending_cash_withdrawal": Intent(
            "cash withdrawal still pending",
            (
                "asks why money taken from an ATM still shows as pending",
                "reports that a cash withdrawal has not been completed on the account",
                "the customer sees an unfinished cash machine transaction",
            ),
            ("an ATM entry not yet settled", "withdrawal still marked in progress"),
        ),
        "pending_top_up": Intent(
            "top-up still pending",
            (
                "asks why added money is still shown as pending",
                "reports that a top-up has not come through yet",
                "the customer is waiting for a top-up to finish processing",
            ),
            ("funds added but not reflected yet", "first top-up still in progress"),
        ),
        "pending_transfer": Intent(
            "transfer still pending",
            (
                "asks why a transfer is still marked as pending",
                "reports that a sent transfer is taking long to complete",
                "the customer waits for an unfinished transfer to be processed",
            ),
            ("when the status will stop being pending",),
        ),
        "receiving_money": Intent(
            "receive money or salary",
            (
                "asks how to receive a salary or money from other people",
                "the customer wants incoming payments in a certain currency",
                "a question about others paying into the account",
            ),
            ("wages paid in pounds", "a friend sending in a foreign currency"),
        ),
        "supported_cards_and_currencies": Intent(
            "cards accepted for top-up",
            (
                "asks which cards and currencies may be used to add money",
                "a question about whether a certain card brand works for topping up",
                "wants the list of card types accepted as a funding source",
            ),
            ("adding funds from American Express",),
        ),
        "terminate_account": Intent(
            "close the account",
            (
                "wants the bank account to be closed for good",
                "asks how to delete the account",
                "the customer is unhappy and requests to end the relationship",
            ),
            ("leaving because of poor service", "no longer needing the account"),
        ),
        "top_up_by_bank_transfer_charge": Intent(
            "bank transfer top-up fee",
            (
                "asks whether adding money by bank transfer costs anything",
                "a question about fees for or acceptance of SWIFT transfers in",
                "the customer wants the charge for funding the account via transfer",
            ),
            ("the cost of SWIFT payments",),
        ),
        "top_up_by_card_charge": Intent(
            "card top-up fee",
            (
                "asks whether adding money with a card carries a fee",
                "a question about charges for topping up by debit or credit card",
                "the customer wants the cost of using a foreign card to add funds",
            ),
            ("fee for a European card", "cost of loading from an American card"),
        ),
        "top_up_by_cash_or_cheque": Intent(
            "top up by cash, cheque",
            (
                "asks whether and how cash or a cheque can be paid in",
                "the customer wants to add money using banknotes or a cheque",
                "a question about depositing cheques or cash into the account",
            ),
            ("a cheque the system will not take", "places to pay in notes"),
        ),
        "top_up_failed": Intent(
            "top-up failed",
            (
                "reports that an attempt to add money did not go through",
                "asks why a top-up was rejected or denied",
                "the customer tried to load money and it was unsuccessful",
            ),
            ("funds could not be added", "the app refused to load the card"),
        ),
        "top_up_limits": Intent(
            "top-up limits",
            (
                "asks for the maximum amount that can be added",
                "a question about limits on the size or number of top-ups",
                "the customer wants to know how often money may be loaded",
            ),
            ("highest sum that can be loaded",),
        ),
        "top_up_reverted": Intent(
            "top-up reversed",
            (
                "reports that money added was later cancelled and taken back",
                "asks why a top-up was reverted after being made",
                "the customer saw added funds vanish again",
            ),
            ("a load that appeared and then disappeared", "topped up but the money was returned"),
        ),
        "topping_up_by_card": Intent(
            "add money by card",
            (
                "asks how to add money using a debit or credit card",
                "the customer wants to load the account from another card",
                "a question about carrying out a top-up with a card",
            ),
            ("moving funds in from a credit card",),
        ),
        "transfer_fee_charged": Intent(
            "fee charged for transfer",
            (
                "asks why a fee was taken for a transfer",
                "reports an unexpected charge on money that was sent",
                "the customer wants a transfer fee explained",
            ),
            ("cost added when sending money", "whether sending funds is free"),
        ),
        "transfer_into_account": Intent(
            "transfer money in",
            (
                "asks how to put money into the account by bank transfer",
                "the customer wants to move funds in from another bank",
                "a question about the steps for adding money through a transfer",
            ),
            ("an empty account needing funds", "sending own savings from elsewhere"),
        ),
        "transfer_not_received_by_recipient": Intent(
            "recipient did not get transfer",
            (
                "reports that the person paid has not received the money",
                "asks why a sent transfer has not reached the other party",
                "the customer paid someone who says nothing has arrived",
            ),
            ("a friend still waiting for the cash", "payment sent, but payee sees nothing"),
        ),
        "transfer_timing": Intent(
            "how long transfers take",
            (
                "asks how much time a transfer normally needs to arrive",
                "a question about the usual duration of transfers between countries",
                "the customer wants to know when transferred money will be available",
            ),
            ("days needed for a European payment", "speed of a transfer from America"),
        ),
        "unable_to_verify_identity": Intent(
            "identity check failed",
            (
                "reports that proving identity did not work",
                "asks why the ID submitted was not accepted",
                "the customer cannot get past the identity verification",
            ),
            ("the app rejects the documents", "correct details yet still not verified"),
        ),
        "verify_my_identity": Intent(
            "how to verify identity",
            (
                "asks how to prove identity and which documents are needed",
                "the customer wants to know the steps of the identity check",
                "a question about what counts as valid identification",
            ),
            ("papers required for the ID check", "where to upload a passport"),
        ),
        "verify_source_of_funds": Intent(
            "where the money comes from",
            (
                "asks where the money in the account came from",
                "the customer wants to check the source of available funds",
                "a question about seeing or proving the origin of money received",
            ),
            ("tracing who sent a deposit", "history of incoming funds"),
        ),
        "verify_top_up": Intent(
            "verify a top-up",
            (
                "asks how to verify a top-up or top-up card",
                "the customer cannot find the verification code for a top-up",
                "a question about why adding money must be confirmed with a code",
            ),
            ("looking for the code on the statement",),
        ),
        "virtual_card_not_working": Intent(
            "virtual card not working",
            (
                "reports that a virtual card does not work",
                "the customer is unable to pay with a disposable virtual card",
                "asks why the online-only card keeps being rejected",
            ),
            ("a throwaway card refused at checkout",),
        ),
        "visa_or_mastercard": Intent(
            "card network choice",
            (
                "asks whether the card issued is a Visa or a Mastercard",
                "the customer prefers one card network over the other",
                "a question about choosing the brand of the card",
            ),
            ("wanting a Mastercard specifically", "whether both networks are on offer"),
        ),
        "why_verify_identity": Intent(
            "why identity check is needed",
            (
                "asks why identity has to be verified at all",
                "the customer objects to or questions giving ID information",
                "wants to know the reason for the check and if it is compulsory",
            ),
            ("using the account without proving identity", "what the personal data is needed for"),
        ),
        "wrong_amount_of_cash_received": Intent(
            "wrong cash amount dispensed",
            (
                "reports that an ATM gave a different amount than requested",
                "the customer got less cash than the app shows as withdrawn",
                "asks to fix a withdrawal where the machine paid out wrongly",
            ),
            ("asked for more notes than came out", "app total differs from cash in hand"),
        ),
        "wrong_exchange_rate_for_cash_withdrawal": Intent(
            "wrong rate on cash withdrawal",
            (
                "reports that cash taken out abroad was converted at a wrong rate",
                "the customer disputes the exchange rate on an ATM withdrawal",
                "asks why money drawn in another country cost more than expected",
            ),
            ("holiday cash converted badly", "foreign cash machine, unexpected rate"),
        ),
    },
    "bitext": {
        "cancel_order": Intent(
            "cancel an order",
            (
                "wants an order or purchase to be cancelled",
                "asks how to call off a purchase already placed",
                "the customer requests that a given order not be fulfilled",
            ),
            ("dropping a purchase by its number", "trouble calling off what was bought"),
        ),
        "change_order": Intent(
            "change items in order",
            (
                "wants to modify the items in an order",
                "asks to add, remove or swap products of an existing purchase",
                "the customer needs help editing what was ordered",
            ),
            ("taking some articles off a purchase", "switching one product for another"),
        ),
        "change_shipping_address": Intent(
            "change delivery address",
            (
                "wants to correct or update an existing delivery address",
                "asks how to replace the shipping address on file",
                "the customer needs parcels to go to a different address",
            ),
            ("the old address is wrong now", "having moved to a new home"),
        ),
        "check_cancellation_fee": Intent(
            "check cancellation fee",
            (
                "asks how much it costs to cancel early",
                "the customer wants to see the penalty for ending a contract",
                "a question about the early termination charge",
            ),
            ("cost of leaving before time",),
        ),
        "check_invoice": Intent(
            "view an invoice",
            (
                "wants to look at an invoice or bill",
                "asks where a particular bill can be seen",
                "the customer needs to check the invoice of some purchase or person",
            ),
            ("viewing the bill from last month",),
        ),
        "check_payment_methods": Intent(
            "accepted payment methods",
            (
                "asks which ways of paying are accepted",
                "the customer wants a list of available payment options",
                "a question about whether certain forms of payment can be used",
            ),
            ("paying by card or bank transfer",),
        ),
        "check_refund_policy": Intent(
            "refund policy",
            (
                "asks in which cases a refund can be requested",
                "the customer wants to know the rules about getting money back",
                "a question about when reimbursement is allowed",
            ),
            ("conditions for being reimbursed",),
        ),
        "complaint": Intent(
            "file a complaint",
            (
                "wants to lodge a complaint against the company",
                "asks how to submit a formal claim about poor treatment",
                "the customer is dissatisfied and needs to make a grievance known",
            ),
            ("making a consumer claim",),
        ),
        "contact_customer_service": Intent(
            "reach customer service",
            (
                "asks how or when customer service can be contacted",
                "the customer wants the support phone number or opening hours",
                "a question about getting in touch with the support department",
            ),
            ("hours when support is open", "reaching the help desk"),
        ),
        "contact_human_agent": Intent(
            "talk to a human",
            (
                "wants to speak with a real person rather than a machine",
                "asks to be put through to an operator or agent",
                "the customer requests a live chat with a human",
            ),
            ("being connected to someone live",),
        ),
        "create_account": Intent(
            "create an account",
            (
                "wants to open a new account",
                "asks how to register an account of some type",
                "the customer requests a new account for self or family",
            ),
            ("opening a gold account for a spouse",),
        ),
        "delete_account": Intent(
            "delete an account",
            (
                "wants an account to be removed or closed",
                "asks how to cancel a user account",
                "the customer no longer needs the profile and requests its deletion",
            ),
            ("closing a premium membership",),
        ),
        "delivery_options": Intent(
            "delivery options",
            (
                "asks what shipping choices and destinations are offered",
                "the customer wants to know if delivery to a certain place is possible",
                "a question about the kinds of shipment available",
            ),
            ("ordering from another city", "parcels sent to Japan"),
        ),
        "delivery_period": Intent(
            "delivery time",
            (
                "asks how long a delivery takes to arrive",
                "the customer wants to know when to expect the product",
                "a question about the shipping time of a purchase",
            ),
            ("how soon the parcel will come",),
        ),
        "edit_account": Intent(
            "edit account details",
            (
                "wants to change the information on an account",
                "asks how to correct or update profile data",
                "the customer needs details of the user account modified",
            ),
            ("fixing data on a standard account",),
        ),
        "get_invoice": Intent(
            "obtain an invoice",
            (
                "wants to receive or download an invoice",
                "asks for a copy of a bill to be sent",
                "the customer needs help getting the bill document",
            ),
            ("downloading a bill by its number",),
        ),
        "get_refund": Intent(
            "obtain a refund",
            (
                "wants money back for something that was paid",
                "asks for a purchase to be reimbursed",
                "the customer requests repayment of a certain amount",
            ),
            ("getting dollars back for an article", "claiming compensation for a payment"),
        ),
        "newsletter_subscription": Intent(
            "newsletter subscription",
            (
                "wants to subscribe to or unsubscribe from the newsletter",
                "asks how to start or stop receiving company news mail",
                "the customer needs help with the mailing list sign-up",
            ),
            ("no longer wanting the company mailings",),
        ),
        "payment_issue": Intent(
            "problem with payment",
            (
                "reports trouble when paying online",
                "the customer wants to notify the company of a payment error",
                "asks for help because a payment does not work",
            ),
            ("checkout fails when trying to pay",),
        ),
        "place_order": Intent(
            "place an order",
            (
                "wants to buy one or more products",
                "asks how to make a purchase",
                "the customer needs help ordering items",
            ),
            ("buying several articles at once",),
        ),
        "recover_password": Intent(
            "recover a password",
            (
                "the customer forgot a password or PIN and wants it back",
                "asks how to reset or retrieve the login key",
                "requests help regaining access to a profile",
            ),
            ("lost the PIN for the user",),
        ),
        "registration_problems": Intent(
            "problem signing up",
            (
                "reports that signing up does not work",
                "the customer wants to notify of an error during registration",
                "asks for help with trouble creating a user",
            ),
            ("an error in the sign-up form",),
        ),
        "review": Intent(
            "leave a review",
            (
                "wants to give an opinion about a product or service",
                "asks how to submit feedback on the company",
                "the customer would like to write a review",
            ),
            ("sending comments about the services",),
        ),
        "set_up_shipping_address": Intent(
            "add a delivery address",
            (
                "wants to enter a delivery address for the first time",
                "asks how to set up a new shipping address",
                "the customer has trouble submitting where parcels should go",
            ),
            ("filling in the address form fails",),
        ),
        "switch_account": Intent(
            "switch account type",
            (
                "wants to move to a different type of account",
                "asks how to upgrade or change to another account level",
                "the customer requests to use a pro, gold or other plan",
            ),
            ("going from standard to platinum",),
        ),
        "track_order": Intent(
            "track an order",
            (
                "asks where an order is or what its status is",
                "the customer wants to follow a purchase on its way",
                "a question about the expected arrival of a given order",
            ),
            ("locating a parcel by its number",),
        ),
        "track_refund": Intent(
            "track a refund",
            (
                "asks about the status of a refund already requested",
                "the customer is still waiting for money to be returned",
                "wants to know if a repayment has been processed yet",
            ),
            ("expecting an agreed compensation",),
        ),
    },
    "clinc150": {
        "accept_reservations": Intent(
            "whether restaurant takes reservations",
            (
                "asks if a certain restaurant accepts reservations",
                "a question about whether tables can be booked at some place",
                "the customer wants to know if an eatery allows advance booking",
            ),
            ("checking if a diner lets people reserve",),
        ),
        "alarm": Intent(
            "set a wake-up alarm",
            (
                "wants an alarm set for a certain clock time",
                "asks the assistant to wake the user at a given hour",
                "requests that the device ring at a stated time of day",
            ),
            ("getting up at eight tomorrow", "ringing the phone at noon"),
        ),
        "are_you_a_bot": Intent(
            "human or bot",
            (
                "asks whether the assistant is a person or a machine",
                "a question about talking to a real human or a computer",
                "the customer suspects the other side is artificial",
            ),
            ("wondering if anyone real is there",),
        ),
        "calculator": Intent(
            "do a calculation",
            (
                "asks for the result of an arithmetic problem",
                "the customer wants some numbers worked out",
                "requests help with a math question such as a sum or percentage",
            ),
            ("twenty percent of some number", "multiplying two large figures"),
        ),
        "calendar": Intent(
            "check the calendar",
            (
                "asks what is on the calendar for some day",
                "the customer wants to hear about planned events",
                "a question about whether anything is scheduled on a date",
            ),
            ("plans listed for next friday",),
        ),
        "calendar_update": Intent(
            "change the calendar",
            (
                "wants an event added to or removed from the calendar",
                "asks the assistant to edit calendar entries",
                "requests that a date be cleared or a plan be noted",
            ),
            ("putting a party down for march", "deleting an outing from the schedule"),
        ),
        "calories": Intent(
            "calories in food",
            (
                "asks how many calories a food contains",
                "a question about the energy content of something to eat",
                "the customer wants the calorie count of a dish or snack",
            ),
            ("whether a donut is fattening",),
        ),
        "cancel": Intent(
            "stop or cancel",
            (
                "tells the assistant to stop what it is doing",
                "the customer wants to call off the current action",
                "requests that the assistant quit talking or switch off",
            ),
            ("telling it to be quiet", "abandoning the running task"),
        ),
        "cancel_reservation": Intent(
            "cancel a reservation",
            (
                "wants a restaurant booking to be cancelled",
                "asks to drop a table that was reserved earlier",
                "the customer no longer needs the reservation",
            ),
            ("giving up a table for two",),
        ),
        "change_accent": Intent(
            "change voice accent",
            (
                "wants the assistant to speak with a different accent",
                "asks for a change to another voice such as male or british",
                "requests that the spoken voice sound different",
            ),
            ("trying a female american voice",),
        ),
        "change_ai_name": Intent(
            "rename the assistant",
            (
                "wants to give the assistant a new name",
                "says what the assistant shall be called from now on",
                "the customer asks to change how the AI is addressed",
            ),
            ("calling the device Theodore instead",),
        ),
        "change_language": Intent(
            "change the language",
            (
                "wants the assistant to use another language",
                "asks to switch the language setting",
                "the customer would like to converse in a different tongue",
            ),
            ("speaking french rather than english",),
        ),
        "change_speed": Intent(
            "change talking speed",
            (
                "wants the assistant to talk faster or slower",
                "asks for the speech rate to be adjusted",
                "the customer finds the spoken replies too quick or slow",
            ),
            ("slowing down the replies",),
        ),
        "change_user_name": Intent(
            "change my name",
            (
                "tells the assistant what name to use for the user",
                "the customer wants the stored user name changed",
                "asks to be called by a different name",
            ),
            ("saying please call me Mandy",),
        ),
        "change_volume": Intent(
            "change the volume",
            (
                "wants the speaker volume turned up or down",
                "asks for the sound to be louder or quieter",
                "the customer requests a certain loudness level",
            ),
            ("raising the sound to a set level",),
        ),
        "confirm_reservation": Intent(
            "confirm a reservation",
            (
                "asks to make sure a restaurant booking exists",
                "the customer wants a reserved table confirmed",
                "a question about whether the reservation is in place for a date",
            ),
            ("verifying the dinner booking at eight",),
        ),
        "cook_time": Intent(
            "cooking time",
            (
                "asks how long a food needs to cook",
                "a question about the minutes required to bake, boil or microwave something",
                "the customer wants to know when a dish will be done",
            ),
            ("how long chicken stays in the oven",),
        ),
        "current_location": Intent(
            "where am I now",
            (
                "asks for the present location of the user",
                "the customer is lost and wants to know the place",
                "a question about the address or city one is in now",
            ),
            ("finding out which town this is",),
        ),
        "date": Intent(
            "what date it is",
            (
                "asks what the date is today or on another day",
                "the customer wants to know the day of the month",
                "a question about the calendar date, not the clock",
            ),
            ("finding out the date tomorrow",),
        ),
        "definition": Intent(
            "meaning of a word",
            (
                "asks what a word means",
                "the customer wants the dictionary definition of some term",
                "a question about the sense of an unfamiliar word",
            ),
            ("looking up what altruism is",),
        ),
        "direct_deposit": Intent(
            "set up direct deposit",
            (
                "wants a paycheck to go straight into a bank account",
                "asks how to arrange direct deposit of wages",
                "the customer needs help having pay sent to an account",
            ),
            ("sending salary to a savings account",),
        ),
        "directions": Intent(
            "get directions",
            (
                "asks how to get to a place",
                "the customer wants a route or the nearest place of some kind",
                "a question about finding the way on foot, by car or bus",
            ),
            ("the way to the closest gas station",),
        ),
        "distance": Intent(
            "travel time or distance",
            (
                "asks how far away a place is or how long getting there takes",
                "the customer wants the journey time to a destination",
                "a question about miles or minutes to somewhere",
            ),
            ("minutes by bus to the stadium",),
        ),
        "do_you_have_pets": Intent(
            "does assistant have pets",
            (
                "asks whether the assistant owns any animals",
                "a personal question to the assistant about pets",
                "the customer is curious which pets the AI has",
            ),
            ("wondering if the AI keeps a dog",),
        ),
        "find_phone": Intent(
            "locate a misplaced phone",
            (
                "wants help locating a misplaced phone",
                "asks where the mobile was left",
                "the customer cannot find the handset and requests a search",
            ),
            ("the handset is somewhere in the house",),
        ),
        "flip_coin": Intent(
            "flip a coin",
            (
                "asks the assistant to toss a coin",
                "the customer wants heads or tails to decide something",
                "requests a random coin toss",
            ),
            ("letting heads or tails choose",),
        ),
        "food_last": Intent(
            "how long food keeps",
            (
                "asks how long a food stays good before it spoils",
                "a question about whether stored food is still safe to eat",
                "the customer wants to know the shelf life of something",
            ),
            ("leftover pasta in the fridge since monday",),
        ),
        "fun_fact": Intent(
            "tell a fun fact",
            (
                "wants to hear an interesting fact",
                "asks for a bit of trivia about some topic",
                "the customer requests a curious piece of knowledge",
            ),
            ("something surprising about whales",),
        ),
        "gas": Intent(
            "fuel left in tank",
            (
                "asks how much gas is left in the car",
                "a question about the current fuel level",
                "the customer wants to know if the tank needs refilling",
            ),
            ("percentage remaining in the tank",),
        ),
        "gas_type": Intent(
            "type of fuel needed",
            (
                "asks what kind of fuel the car takes",
                "a question about regular, premium or diesel for a vehicle",
                "the customer wants to know which gas to buy",
            ),
            ("whether the car needs premium",),
        ),
        "goodbye": Intent(
            "saying goodbye",
            (
                "the customer takes leave and ends the conversation",
                "says farewell to the assistant",
                "a parting phrase at the close of the chat",
            ),
            ("leaving and coming back another day", "leaving after a nice talk"),
        ),
        "greeting": Intent(
            "saying hello",
            (
                "the customer greets the assistant",
                "says hello or asks how it is doing",
                "an opening phrase that starts the conversation politely",
            ),
            ("hi, how are things",),
        ),
        "how_busy": Intent(
            "how busy a restaurant is",
            (
                "asks how crowded a restaurant is at some time",
                "a question about the wait for a table",
                "the customer wants to know when an eatery is full",
            ),
            ("waiting time at lunch hour",),
        ),
        "how_old_are_you": Intent(
            "age of the assistant",
            (
                "asks how old the assistant is",
                "a personal question about the age of the AI",
                "the customer wants to know how long the bot has existed",
            ),
            ("when the bot came into being",),
        ),
        "income": Intent(
            "how much I earn",
            (
                "asks how much the user earns",
                "a question about the user's own salary or pay rate",
                "the customer wants information on wages received",
            ),
            ("yearly pay at the current job",),
        ),
        "ingredient_substitution": Intent(
            "swap an ingredient",
            (
                "asks what can replace an ingredient in cooking",
                "a question about using one food instead of another in a recipe",
                "the customer lacks something and wants a substitute",
            ),
            ("yogurt in place of sour cream",),
        ),
        "ingredients_list": Intent(
            "ingredients for a dish",
            (
                "asks which ingredients a dish requires",
                "the customer wants to know what goes into a meal",
                "a question about what to buy for making some food",
            ),
            ("shopping needed to cook burritos",),
        ),
        "insurance": Intent(
            "my insurance plan",
            (
                "asks about the insurance plan the user has now",
                "a question about what coverage one is enrolled in",
                "the customer wants the name or benefits of the current policy",
            ),
            ("name of the present health plan",),
        ),
        "insurance_change": Intent(
            "change insurance",
            (
                "wants to switch to or get a different insurance plan",
                "asks how to modify an insurance policy",
                "the customer is looking for new coverage",
            ),
            ("moving to a cheaper premium",),
        ),
        "jump_start": Intent(
            "jump start a car",
            (
                "asks how to jump start a car",
                "the customer has a dead battery and needs instructions",
                "a question about getting power from another vehicle to start",
            ),
            ("connecting cables to a flat battery",),
        ),
        "last_maintenance": Intent(
            "last car service",
            (
                "asks when the car was last serviced",
                "a question about the date of the previous maintenance",
                "the customer wants to know the last visit to the shop",
            ),
            ("most recent check-up of the car",),
        ),
        "make_call": Intent(
            "make a phone call",
            (
                "wants to call a person by phone",
                "asks the assistant to dial someone",
                "the customer requests a voice connection to a contact",
            ),
            ("ringing mother at home",),
        ),
        "maybe": Intent(
            "unsure answer",
            (
                "the customer gives an undecided reply, neither yes nor no",
                "says they do not know or are not sure",
                "an answer that leaves the matter open",
            ),
            ("could be either way", "no idea about that"),
        ),
        "meal_suggestion": Intent(
            "suggest a meal",
            (
                "asks for an idea of what to cook or eat",
                "the customer wants a dish proposed for dinner",
                "requests a recommendation for food of some cuisine",
            ),
            ("ideas for a peruvian supper",),
        ),
        "meaning_of_life": Intent(
            "meaning of life",
            (
                "asks the assistant what life is all about",
                "a philosophical question about the purpose of existence",
                "the customer wonders why we are alive",
            ),
            ("the point of being here",),
        ),
        "measurement_conversion": Intent(
            "convert units",
            (
                "asks to convert a quantity from one unit to another",
                "a question about how many of one measure equal another",
                "the customer wants inches, pounds or cups expressed differently",
            ),
            ("pounds turned into kilos",),
        ),
        "meeting_schedule": Intent(
            "check my meetings",
            (
                "asks what meetings are planned",
                "the customer wants to know if there is a meeting at some time",
                "a question about who one is meeting today and when",
            ),
            ("meetings between five and six",),
        ),
        "mpg": Intent(
            "car fuel economy",
            (
                "asks how many miles per gallon the car gets",
                "a question about the gas mileage of a vehicle",
                "the customer wants to know how efficient the car is",
            ),
            ("how far one gallon goes",),
        ),
        "next_holiday": Intent(
            "next day off",
            (
                "asks when the next public holiday is",
                "a question about the coming free day from work",
                "the customer wants to know how soon a holiday falls",
            ),
            ("the following three day weekend",),
        ),
        "next_song": Intent(
            "go to following song",
            (
                "wants the player to move on to the next track",
                "asks to skip the song now playing",
                "the customer requests that the following song be put on",
            ),
            ("not liking the current track",),
        ),
        "no": Intent(
            "answering no",
            (
                "the customer says no or disagrees",
                "a negative answer to what was asked",
                "declines or rejects what the assistant proposed",
            ),
            ("refusing what was offered",),
        ),
        "nutrition_info": Intent(
            "nutrition facts",
            (
                "asks for the nutritional content of a food",
                "a question about vitamins, fat, protein and such in something",
                "the customer wants to know how healthy a food is",
            ),
            ("nutrients in a glass of milk",),
        ),
        "oil_change_how": Intent(
            "how to change oil",
            (
                "asks for the steps to change the oil in a car",
                "the customer wants to do an oil change and needs instructions",
                "a question about how motor oil is replaced",
            ),
            ("replacing engine oil at home",),
        ),
        "oil_change_when": Intent(
            "when to change oil",
            (
                "asks when the next oil change is due",
                "a question about how soon the car oil should be replaced",
                "the customer wants the right time to change motor oil",
            ),
            ("how long until the oil is old",),
        ),
        "order": Intent(
            "order a product",
            (
                "wants something bought through the assistant",
                "asks the assistant to purchase goods that ran out",
                "the customer requests an online order of an item",
            ),
            ("getting more shampoo from a store",),
        ),
        "order_status": Intent(
            "status of an order",
            (
                "asks where an ordered item is",
                "the customer wants to track a package",
                "a question about when a purchase will be delivered",
            ),
            ("whether the parcel comes by saturday",),
        ),
        "payday": Intent(
            "when I get paid",
            (
                "asks when the next paycheck comes",
                "a question about the date wages are paid",
                "the customer wants to know if the pay has arrived",
            ),
            ("date of the coming salary deposit",),
        ),
        "play_music": Intent(
            "put music on",
            (
                "wants some music or a certain song played",
                "asks the assistant to start an artist, genre or playlist",
                "the customer requests to hear music",
            ),
            ("putting on the rolling stones",),
        ),
        "pto_balance": Intent(
            "vacation days left",
            (
                "asks how much paid time off remains",
                "a question about the number of vacation days still available",
                "the customer wants to know if enough leave is left",
            ),
            ("hours of leave saved up",),
        ),
        "pto_request": Intent(
            "request time off",
            (
                "wants to apply for vacation on certain dates",
                "asks how to put in for paid leave",
                "the customer requests days off from work",
            ),
            ("booking leave in january",),
        ),
        "pto_request_status": Intent(
            "status of leave request",
            (
                "asks whether a vacation request has been approved",
                "a question about what became of the days off applied for",
                "the customer awaits an answer on requested leave",
            ),
            ("the boss approving the holiday",),
        ),
        "pto_used": Intent(
            "vacation days used",
            (
                "asks how many days of paid leave have been taken",
                "a question about vacation already spent so far",
                "the customer wants the count of days off used",
            ),
            ("leave consumed this year",),
        ),
        "recipe": Intent(
            "find a recipe",
            (
                "wants a recipe for a certain dish",
                "asks how a particular food is prepared",
                "the customer requests cooking instructions",
            ),
            ("making beef stew at home",),
        ),
        "reminder": Intent(
            "check my reminders",
            (
                "asks which reminders have been set",
                "the customer wants the reminder list read out",
                "a question about whether something is among the reminders",
            ),
            ("hearing what I asked to remember",),
        ),
        "reminder_update": Intent(
            "create a reminder",
            (
                "wants to be reminded of something later",
                "asks the assistant to create a reminder",
                "the customer requests a nudge about a task at some time",
            ),
            ("not forgetting to call mom",),
        ),
        "repeat": Intent(
            "repeat the last answer",
            (
                "asks the assistant to say the last thing again",
                "the customer did not hear and wants a repetition",
                "requests that the previous answer be repeated",
            ),
            ("missed the words just spoken",),
        ),
        "reset_settings": Intent(
            "reset to factory settings",
            (
                "wants the device restored to its original settings",
                "asks for a factory reset",
                "the customer requests that all settings return to defaults",
            ),
            ("undoing all changes to the device",),
        ),
        "restaurant_reservation": Intent(
            "book a table",
            (
                "wants a table reserved at a restaurant",
                "asks to make a dinner reservation for a number of people",
                "the customer requests a booking at an eatery for some time",
            ),
            ("a table for five at eight",),
        ),
        "restaurant_reviews": Intent(
            "restaurant reviews",
            (
                "asks how a restaurant is rated by others",
                "the customer wants reviews of an eatery or its dishes",
                "a question about whether some restaurant is any good",
            ),
            ("what people say on yelp",),
        ),
        "restaurant_suggestion": Intent(
            "suggest a restaurant",
            (
                "wants a good place to eat recommended",
                "asks which restaurants in an area are worth visiting",
                "the customer requests ideas for dining out",
            ),
            ("good chinese places in town",),
        ),
        "roll_dice": Intent(
            "throw some dice",
            (
                "asks the assistant to roll a die or dice",
                "the customer wants a random dice result",
                "requests a throw of dice with some number of sides",
            ),
            ("throwing one with eight sides",),
        ),
        "rollover_401k": Intent(
            "roll over 401k",
            (
                "wants to move a 401k retirement plan to a new one",
                "asks how to roll over retirement savings",
                "the customer changed jobs and needs the 401k transferred",
            ),
            ("pension money from a former employer",),
        ),
        "schedule_maintenance": Intent(
            "schedule car service",
            (
                "wants to book an appointment to have the car serviced",
                "asks for a mechanic to check a problem with the vehicle",
                "the customer needs a time arranged for repairs",
            ),
            ("the check engine light is on",),
        ),
        "schedule_meeting": Intent(
            "schedule a meeting",
            (
                "wants a meeting with someone put on the schedule",
                "asks to book a meeting room for some time",
                "the customer needs to arrange a meeting",
            ),
            ("reserving the conference room for interviews",),
        ),
        "share_location": Intent(
            "share my location",
            (
                "wants the current position sent to another person",
                "asks the assistant to let someone know where the user is",
                "the customer requests location sharing with a contact",
            ),
            ("telling mom where I am",),
        ),
        "shopping_list": Intent(
            "check shopping list",
            (
                "asks what is on the shopping list",
                "the customer wants the shopping list read aloud",
                "a question about whether an item is on the list to buy",
            ),
            ("seeing if tomatoes are listed",),
        ),
        "shopping_list_update": Intent(
            "change shopping list",
            (
                "wants an item added to or taken off the shopping list",
                "asks the assistant to edit the things to buy",
                "the customer requests a change in the shopping list",
            ),
            ("putting cereal down for purchase",),
        ),
        "smart_home": Intent(
            "control home devices",
            (
                "wants a device in the home or the car switched on or adjusted",
                "asks the assistant to control lights, heating or locks",
                "the customer gives a command to smart appliances",
            ),
            ("turning on the furnace", "checking who is at the door"),
        ),
        "spelling": Intent(
            "spell a word",
            (
                "asks how a word is spelled",
                "the customer wants the right letters of a word",
                "a question about correct spelling",
            ),
            ("the letters in miscellaneous",),
        ),
        "sync_device": Intent(
            "connect or disconnect phone",
            (
                "wants the assistant paired with or unpaired from the phone",
                "asks to sync a device",
                "the customer requests connecting to or disconnecting from a phone",
            ),
            ("linking with the mobile",),
        ),
        "taxes": Intent(
            "taxes owed",
            (
                "asks how much tax the user has to pay",
                "a question about state or federal taxes and returns",
                "the customer wants information on the tax amount",
            ),
            ("the result of a tax return",),
        ),
        "tell_joke": Intent(
            "hear a joke",
            (
                "wants to hear a joke",
                "asks the assistant for something funny",
                "the customer requests humor on some subject",
            ),
            ("a silly line about cats",),
        ),
        "text": Intent(
            "message someone by phone",
            (
                "wants a text message sent to someone",
                "asks the assistant to text a contact",
                "the customer dictates a message to be sent by phone",
            ),
            ("writing mom that I am late",),
        ),
        "thank_you": Intent(
            "saying thank you",
            (
                "the customer thanks the assistant",
                "expresses gratitude for the help given",
                "a polite phrase of appreciation",
            ),
            ("glad about the assistance",),
        ),
        "time": Intent(
            "what time it is",
            (
                "asks for the current clock time",
                "a question about the hour here or in another zone",
                "the customer wants to know how late it is",
            ),
            ("the hour in central zone",),
        ),
        "timer": Intent(
            "set a timer",
            (
                "wants a timer set for a given length of time",
                "asks the assistant to count down a duration",
                "the customer requests a timer to be started",
            ),
            ("five minutes for the cookies",),
        ),
        "tire_change": Intent(
            "when to change tires",
            (
                "asks when the tires should be replaced",
                "a question about whether the car needs new tires",
                "the customer wants to know how to or when to swap tires",
            ),
            ("tires put on years ago",),
        ),
        "tire_pressure": Intent(
            "tire pressure",
            (
                "asks what the air pressure in the tires is",
                "a question about whether tires need more air",
                "the customer wants to know if tire pressure is right",
            ),
            ("checking if a wheel is low",),
        ),
        "todo_list": Intent(
            "check to-do list",
            (
                "asks what tasks are on the to-do list",
                "the customer wants to know which chores remain",
                "a question about whether a task is already listed",
            ),
            ("chores still left today",),
        ),
        "todo_list_update": Intent(
            "change to-do list",
            (
                "wants a task added to or removed from the to-do list",
                "asks the assistant to edit the list of chores",
                "the customer requests that the task list be changed or cleared",
            ),
            ("noting that dishes must be done",),
        ),
        "traffic": Intent(
            "traffic conditions",
            (
                "asks how the traffic is on a route",
                "a question about congestion on the way somewhere",
                "the customer wants to know if roads are busy",
            ),
            ("delays on the drive to work",),
        ),
        "uber": Intent(
            "book an Uber",
            (
                "wants an Uber ride to some place",
                "asks the assistant to call an Uber",
                "the customer requests a car to be hailed for a trip",
            ),
            ("a lift to the train station",),
        ),
        "update_playlist": Intent(
            "add song to playlist",
            (
                "wants a song added to a playlist",
                "asks the assistant to save this track in a music list",
                "the customer requests a playlist be changed",
            ),
            ("putting a tune among rock favorites",),
        ),
        "user_name": Intent(
            "what I am called",
            (
                "asks what name the assistant has for the user",
                "a question about how the user is addressed or saved",
                "the customer wants to know the own name on record",
            ),
            ("the name my profile is under",),
        ),
        "w2": Intent(
            "get W-2 form",
            (
                "asks where to get the W-2 tax form",
                "the customer needs the yearly wage statement for taxes",
                "a question about obtaining the W-2 document",
            ),
            ("wage paper from the employer",),
        ),
        "weather": Intent(
            "weather forecast",
            (
                "asks what the weather is or will be",
                "a question about rain, temperature or forecast for a place",
                "the customer wants to know the conditions outside",
            ),
            ("chance of rain tomorrow",),
        ),
        "what_are_your_hobbies": Intent(
            "hobbies of the assistant",
            (
                "asks what the assistant does for fun",
                "a personal question about the hobbies of the AI",
                "the customer is curious how the bot spends free time",
            ),
            ("what the bot enjoys after work",),
        ),
        "what_can_i_ask_you": Intent(
            "what assistant can do",
            (
                "asks which questions or tasks the assistant can handle",
                "the customer wants to know the abilities of the assistant",
                "a question about the subjects that may be raised",
            ),
            ("topics the bot knows about",),
        ),
        "what_is_your_name": Intent(
            "name of the assistant",
            (
                "asks what the assistant is called",
                "the customer wants to know the name of the AI",
                "a question about how to address the bot",
            ),
            ("what to call the bot",),
        ),
        "what_song": Intent(
            "identify the song playing",
            (
                "asks for the title or artist of the song being heard",
                "the customer wants a tune identified",
                "a question about what music is on right now",
            ),
            ("who sings this track",),
        ),
        "where_are_you_from": Intent(
            "origin of the assistant",
            (
                "asks where the assistant comes from",
                "a personal question about the birthplace of the AI",
                "the customer wants to know the home country of the bot",
            ),
            ("where the bot was born",),
        ),
        "whisper_mode": Intent(
            "whisper or speak softly",
            (
                "wants the assistant to whisper",
                "asks for a soft, quiet way of speaking",
                "the customer requests the whisper voice",
            ),
            ("talking in a hushed voice",),
        ),
        "who_do_you_work_for": Intent(
            "employer of the assistant",
            (
                "asks whom the assistant works for",
                "a question about the boss or company behind the AI",
                "the customer wants to know who employs the bot",
            ),
            ("whose orders the bot follows",),
        ),
        "who_made_you": Intent(
            "maker of the assistant",
            (
                "asks who created or programmed the assistant",
                "a question about the developer of the AI",
                "the customer wants to know which people or company built the bot",
            ),
            ("the programmer behind the bot",),
        ),
        "yes": Intent(
            "answering yes",
            (
                "the customer says yes or agrees",
                "an affirmative answer to what was asked",
                "confirms that something is correct",
            ),
            ("agreeing that it was right",),
        ),
    },
    "hwu64": {
        "alarm_query": Intent(
            "check set alarms",
            (
                "asks which alarms are set",
                "the customer wants to know if an alarm exists for some time",
                "a question about the alarms already in place",
            ),
            ("when the morning alarm goes off",),
        ),
        "alarm_remove": Intent(
            "remove an alarm",
            (
                "wants an alarm cancelled or deleted",
                "asks the assistant to get rid of set alarms",
                "the customer requests that an alarm no longer ring",
            ),
            ("no wake-up call on saturday",),
        ),
        "alarm_set": Intent(
            "set a new alarm",
            (
                "wants a new alarm set for a certain time",
                "asks to be woken at a given hour",
                "the customer requests an alarm on some day",
            ),
            ("waking up thursday at seven",),
        ),
        "audio_volume_down": Intent(
            "make sound quieter",
            (
                "wants the sound made quieter",
                "asks for the volume to be turned down",
                "the customer finds the audio too loud",
            ),
            ("having the music play softer",),
        ),
        "audio_volume_mute": Intent(
            "silence all sound",
            (
                "wants all sound switched off",
                "asks the assistant to mute the speakers",
                "the customer requests silence for a while",
            ),
            ("no noise for twenty minutes",),
        ),
        "audio_volume_up": Intent(
            "raise sound level up",
            (
                "wants the sound made louder",
                "asks for the volume to be turned up",
                "the customer can hardly hear the audio",
            ),
            ("music is too faint",),
        ),
        "calendar_query": Intent(
            "check the calendar",
            (
                "asks what events or appointments are planned",
                "the customer wants to know if some time is free",
                "a question about the schedule for a day or week",
            ),
            ("a dentist visit on monday morning",),
        ),
        "calendar_remove": Intent(
            "delete calendar events",
            (
                "wants an event removed from the calendar",
                "asks the assistant to cancel or clear appointments",
                "the customer requests that calendar entries be deleted",
            ),
            ("wiping everything off the schedule",),
        ),
        "calendar_set": Intent(
            "add calendar event",
            (
                "wants a new event or reminder put on the calendar",
                "asks to schedule a meeting or appointment",
                "the customer requests to be reminded of an event on a date",
            ),
            ("noting the biology test on friday",),
        ),
        "cooking_recipe": Intent(
            "recipe or cooking help",
            (
                "asks how to cook a dish",
                "the customer wants a recipe",
                "a question about preparing food, such as temperature or ingredients",
            ),
            ("making spaghetti at home", "oil heat for frying potatoes"),
        ),
        "datetime_convert": Intent(
            "convert time zones",
            (
                "asks what a time in one place is in another",
                "the customer wants the difference between two time zones",
                "a question about converting clock times between regions",
            ),
            ("noon in virginia seen from california",),
        ),
        "datetime_query": Intent(
            "current date or time",
            (
                "asks what the time or date is, here or elsewhere",
                "the customer wants to know which day a date falls on",
                "a question about the clock or calendar right now",
            ),
            ("the hour in china now",),
        ),
        "email_addcontact": Intent(
            "add email contact",
            (
                "wants an email address saved as a contact",
                "asks to add a person to the email address book",
                "the customer requests that a new contact be stored",
            ),
            ("keeping gary's address for later",),
        ),
        "email_query": Intent(
            "check for emails",
            (
                "asks whether new emails have come",
                "the customer wants to hear mail from a person or period",
                "a question about what is in the inbox",
            ),
            ("a message from mom today",),
        ),
        "email_querycontact": Intent(
            "look up a contact",
            (
                "asks for the details of a contact person",
                "the customer wants somebody's email address or phone number",
                "a question about information stored in the contacts",
            ),
            ("the number of a friend",),
        ),
        "email_sendemail": Intent(
            "send an email",
            (
                "wants an email written and sent to someone",
                "asks the assistant to reply to or forward a message",
                "the customer dictates mail for a recipient",
            ),
            ("answering the boss by mail",),
        ),
        "general_affirm": Intent(
            "agreeing or confirming",
            (
                "the customer confirms that the answer was right",
                "says yes, that is correct",
                "expresses agreement that the assistant understood well",
            ),
            ("the response was exactly right",),
        ),
        "general_commandstop": Intent(
            "stop the assistant",
            (
                "tells the assistant to stop or shut down",
                "the customer wants the current activity ended",
                "asks the assistant to be quiet or cease",
            ),
            ("let us talk later",),
        ),
        "general_confirm": Intent(
            "ask for confirmation",
            (
                "asks the assistant to check that it understood correctly",
                "the customer wants what was said verified",
                "requests a confirmation of the last details",
            ),
            ("did you get that right",),
        ),
        "general_dontcare": Intent(
            "does not mind",
            (
                "the customer has no preference or does not mind",
                "says that any option is fine",
                "a reply showing indifference to what was offered",
            ),
            ("pick whatever you like",),
        ),
        "general_explain": Intent(
            "ask for explanation",
            (
                "asks the assistant to explain what it said",
                "the customer did not understand and wants clarification",
                "requests more detail on the last answer",
            ),
            ("please make that clearer",),
        ),
        "general_joke": Intent(
            "hear a joke",
            (
                "wants to hear a joke",
                "asks the assistant to be funny",
                "the customer would like to be cheered up with humor",
            ),
            ("something to make me laugh",),
        ),
        "general_negate": Intent(
            "saying it was wrong",
            (
                "the customer says the assistant got it wrong",
                "denies that the command was understood properly",
                "expresses that the result was not what was meant",
            ),
            ("you did the wrong thing",),
        ),
        "general_praise": Intent(
            "praise or thanks",
            (
                "the customer praises or thanks the assistant",
                "says the job was done well",
                "expresses satisfaction with the help received",
            ),
            ("nice work, much appreciated",),
        ),
        "general_quirky": Intent(
            "odd or small talk",
            (
                "makes an odd remark or chats about no particular task",
                "the customer says something offbeat that fits no other kind of request",
                "a random, personal or rambling question to the assistant",
            ),
            ("inviting the assistant to dinner", "grumbling about daily life"),
        ),
        "general_repeat": Intent(
            "hear it once more",
            (
                "asks the assistant to repeat what it just said",
                "the customer wants to hear the last sentence once more",
                "requests that the same words be said again",
            ),
            ("the last words were missed",),
        ),
        "iot_cleaning": Intent(
            "start the vacuum cleaner",
            (
                "wants the robot vacuum to clean",
                "asks for the house or a room to be vacuumed",
                "the customer requests automatic floor cleaning",
            ),
            ("sweeping the mud room",),
        ),
        "iot_coffee": Intent(
            "have coffee brewed",
            (
                "wants the coffee machine started",
                "asks the assistant to brew coffee now or at some time",
                "the customer requests a cup of coffee",
            ),
            ("a fresh brew at eight",),
        ),
        "iot_hue_lightchange": Intent(
            "change light color",
            (
                "wants the lights set to another color or shade",
                "asks for the lamps to change their hue or setting",
                "the customer requests a different mood of lighting",
            ),
            ("from purple to green", "a romantic tone in the room"),
        ),
        "iot_hue_lightdim": Intent(
            "make lights dimmer",
            (
                "wants the lights made less bright",
                "asks for the lighting to be lowered",
                "the customer requests a darker room without switching lamps off",
            ),
            ("too bright in here",),
        ),
        "iot_hue_lightoff": Intent(
            "switch lights off",
            (
                "wants the lights switched off",
                "asks the assistant to put out the lamps",
                "the customer requests no light in a room",
            ),
            ("kitchen in the dark",),
        ),
        "iot_hue_lighton": Intent(
            "switch lights on",
            (
                "wants the lights switched on",
                "asks the assistant to light up a room",
                "the customer finds the room dark and needs lamps on",
            ),
            ("cannot see in the dark",),
        ),
        "iot_hue_lightup": Intent(
            "brighten the lights",
            (
                "wants lights that are on made brighter",
                "asks for the brightness to be increased",
                "the customer requests stronger lighting",
            ),
            ("raising lamps to the maximum",),
        ),
        "iot_wemo_off": Intent(
            "turn smart plug off",
            (
                "wants a smart plug or socket switched off",
                "asks the assistant to cut power at the wemo outlet",
                "the customer requests that the plugged-in outlet be disabled",
            ),
            ("no current to the game room socket",),
        ),
        "iot_wemo_on": Intent(
            "turn smart plug on",
            (
                "wants a smart plug or socket switched on",
                "asks the assistant to enable the wemo outlet",
                "the customer requests power at a smart socket",
            ),
            ("giving current to the outlet",),
        ),
        "lists_createoradd": Intent(
            "create or extend list",
            (
                "wants a new list made or an item added to one",
                "asks the assistant to put something on a list",
                "the customer requests an entry in a list, such as groceries",
            ),
            ("chives onto the groceries",),
        ),
        "lists_query": Intent(
            "check a list",
            (
                "asks what is on a list",
                "the customer wants the contents of a list read out",
                "a question about which lists or items exist",
            ),
            ("anything left still to do",),
        ),
        "lists_remove": Intent(
            "remove from a list",
            (
                "wants an item or a whole list deleted",
                "asks the assistant to take something off a list",
                "the customer requests that list entries be erased",
            ),
            ("crossing apples off the groceries",),
        ),
        "music_likeness": Intent(
            "like or rate music",
            (
                "expresses liking or an opinion about a song",
                "the customer wants a song rated or saved as a favorite",
                "tells the assistant what music the user enjoys",
            ),
            ("five stars for this tune",),
        ),
        "music_query": Intent(
            "question about music",
            (
                "asks about the song, artist or genre being played",
                "the customer wants facts on the music in the player",
                "a question such as which track this is",
            ),
            ("who sang the current song",),
        ),
        "music_settings": Intent(
            "change player settings",
            (
                "wants a music player setting changed, such as shuffle or repeat",
                "asks for playback options to be switched on or off",
                "the customer requests that an album or song be looped",
            ),
            ("random order of tracks",),
        ),
        "news_query": Intent(
            "get the news",
            (
                "asks for the latest news",
                "the customer wants to hear what happened in the world or on a topic",
                "a question about current events",
            ),
            ("headlines about the president",),
        ),
        "play_audiobook": Intent(
            "play an audiobook",
            (
                "wants an audiobook started or resumed",
                "asks the assistant to read a book aloud",
                "the customer requests to go on listening to a book",
            ),
            ("back to the last chapter heard",),
        ),
        "play_game": Intent(
            "play a game",
            (
                "wants to play a game with the assistant",
                "asks for a game such as chess or cards to be started",
                "the customer requests some gaming fun",
            ),
            ("a round of poker together",),
        ),
        "play_music": Intent(
            "put music on",
            (
                "wants a song, artist or playlist played",
                "asks the assistant to put on some music",
                "the customer requests to hear a kind of music",
            ),
            ("jazz from a new album",),
        ),
        "play_podcasts": Intent(
            "play a podcast",
            (
                "wants a podcast or an episode of one played",
                "asks the assistant to go to another podcast episode",
                "the customer requests to listen to a show in the podcast app",
            ),
            ("the latest episode of a show",),
        ),
        "play_radio": Intent(
            "play the radio",
            (
                "wants the radio turned on",
                "asks the assistant for a certain radio station",
                "the customer requests to listen to a broadcast channel",
            ),
            ("tuning in to an FM channel",),
        ),
        "qa_currency": Intent(
            "currency exchange rates",
            (
                "asks the exchange rate between two currencies",
                "the customer wants an amount converted into other money",
                "a question about the price of a currency",
            ),
            ("one dollar in rupees",),
        ),
        "qa_definition": Intent(
            "definition of a word",
            (
                "asks what a word or thing means",
                "the customer wants the definition of a term",
                "a question about the sense or description of something",
            ),
            ("looking up the word enthusiastic",),
        ),
        "qa_factoid": Intent(
            "general knowledge question",
            (
                "asks for a fact about people, places or the world",
                "the customer puts a general knowledge question",
                "wants to learn something such as where a city lies",
            ),
            ("whether turkeys can fly",),
        ),
        "qa_maths": Intent(
            "solve a math problem",
            (
                "asks for the result of a calculation",
                "the customer wants numbers added, subtracted or multiplied",
                "a question that needs arithmetic",
            ),
            ("the sum of five and six",),
        ),
        "qa_stock": Intent(
            "stock prices",
            (
                "asks how a company share is trading",
                "the customer wants stock market information",
                "a question about share prices or funds",
            ),
            ("where microsoft shares stand",),
        ),
        "recommendation_events": Intent(
            "find events nearby",
            (
                "asks what events are going on in an area",
                "the customer wants suggestions for things to attend",
                "a question about local happenings",
            ),
            ("shows near the city today",),
        ),
        "recommendation_locations": Intent(
            "find places nearby",
            (
                "asks for a good shop, restaurant or place to stay nearby",
                "the customer wants recommended places in an area",
                "a question about where to go for something locally",
            ),
            ("the best chicken place around",),
        ),
        "recommendation_movies": Intent(
            "find movies showing",
            (
                "asks which movies are playing in theaters",
                "the customer wants a film suggested",
                "a question about cinema show times nearby",
            ),
            ("good films on tonight",),
        ),
        "social_post": Intent(
            "post on social media",
            (
                "wants something posted on a social network",
                "asks the assistant to tweet or share a message",
                "the customer requests that a public complaint or status be published",
            ),
            ("tweeting at a shop",),
        ),
        "social_query": Intent(
            "check social media",
            (
                "asks what is happening on the user's social networks",
                "the customer wants to know about likes, replies or trends",
                "a question about activity on social media accounts",
            ),
            ("likes on a cake photo",),
        ),
        "takeaway_order": Intent(
            "order takeaway food",
            (
                "wants food ordered for delivery or pickup",
                "asks the assistant to get a meal from a restaurant",
                "the customer requests takeout of some cuisine",
            ),
            ("two cheeseburgers brought home",),
        ),
        "takeaway_query": Intent(
            "question about takeaway",
            (
                "asks whether a restaurant offers takeaway or delivery",
                "the customer wants the status of a food order",
                "a question about when ordered food will arrive",
            ),
            ("if the place delivers",),
        ),
        "transport_query": Intent(
            "travel route or times",
            (
                "asks for directions or train times",
                "the customer wants to know how to get somewhere",
                "a question about stations, routes and schedules",
            ),
            ("the next train to a city",),
        ),
        "transport_taxi": Intent(
            "book a taxi",
            (
                "wants a taxi called or booked",
                "asks the assistant for a cab to a place",
                "the customer requests a ride by car at some time",
            ),
            ("the nearest cab company",),
        ),
        "transport_ticket": Intent(
            "book train tickets",
            (
                "wants a train ticket found or bought",
                "asks the assistant to reserve a seat for a rail trip",
                "the customer requests tickets to some city",
            ),
            ("a berth to lucknow next week",),
        ),
        "transport_traffic": Intent(
            "traffic conditions",
            (
                "asks how the traffic is",
                "the customer wants to know of accidents or roadblocks",
                "a question about congestion on the roads",
            ),
            ("jams on the highway now",),
        ),
        "weather_query": Intent(
            "weather forecast",
            (
                "asks what the weather is or will be",
                "the customer wants the forecast for a place or day",
                "a question about rain, heat or cold outside",
            ),
            ("if an umbrella is needed thursday",),
        ),
    },
    "sgd": {
        "Buses_2/BuyBusTicket": Intent(
            "buy a bus ticket",
            (
                "wants to buy tickets for a bus trip",
                "asks the assistant to book seats on a chosen bus",
                "the customer is ready to purchase bus travel",
            ),
            ("paying for two seats on the coach",),
        ),
        "Buses_2/FindBus": Intent(
            "find a bus",
            (
                "wants to search for buses between two cities",
                "asks which buses leave on some date",
                "the customer looks for a suitable bus trip before buying",
            ),
            ("a coach from sacramento for three",),
        ),
        "Events_2/BuyEventTickets": Intent(
            "buy event tickets",
            (
                "wants to purchase tickets for an event",
                "asks the assistant to get seats for a show or game",
                "the customer has chosen an event and is ready to book",
            ),
            ("three seats for the match",),
        ),
        "Events_2/FindEvents": Intent(
            "find events",
            (
                "wants to search for events to attend",
                "asks what concerts or games are on in a city",
                "the customer needs ideas for something to do",
            ),
            ("taking visiting friends to a concert",),
        ),
        "Events_2/GetEventDates": Intent(
            "learn event dates",
            (
                "asks on which dates a certain event takes place",
                "the customer wants to know when a show is on",
                "a question about the day of a game or concert",
            ),
            ("when the band plays in town",),
        ),
        "Flights_2/SearchOnewayFlight": Intent(
            "find one-way flight",
            (
                "wants to search for a flight in one direction only",
                "asks for plane trips without a return",
                "the customer looks for a single flight to some city",
            ),
            ("moving away and not flying back",),
        ),
        "Flights_2/SearchRoundtripFlights": Intent(
            "find round-trip flight",
            (
                "wants to search for flights there and back",
                "asks for plane trips with a return date",
                "the customer looks for a return flight",
            ),
            ("leaving friday and returning on sunday",),
        ),
        "Hotels_2/BookHouse": Intent(
            "book a house",
            (
                "wants to reserve a house for a stay",
                "asks the assistant to book the rental home chosen",
                "the customer is ready to confirm a holiday house",
            ),
            ("a home for three guests, dates known",),
        ),
        "Hotels_2/SearchHouse": Intent(
            "find a house to rent",
            (
                "wants to search for a house to stay in",
                "asks for holiday homes in a city",
                "the customer looks for a well rated rental house before booking",
            ),
            ("a place with good ratings for one",),
        ),
        "Hotels_3/ReserveHotel": Intent(
            "reserve a hotel",
            (
                "wants to book a hotel room",
                "asks the assistant to make the hotel reservation",
                "the customer has picked a hotel and gives the dates",
            ),
            ("checking out on the fourteenth",),
        ),
        "Hotels_3/SearchHotel": Intent(
            "find a hotel",
            (
                "wants to search for a hotel in some place",
                "asks for hotels that fit the trip",
                "the customer looks for somewhere with rooms before booking",
            ),
            ("lodging around kuala lumpur",),
        ),
        "Music_2/LookupMusic": Intent(
            "find music",
            (
                "wants to search for songs to listen to",
                "asks for music of a certain genre, artist or album",
                "the customer looks for a song before playing it",
            ),
            ("something folk to listen to",),
        ),
        "Music_2/PlayMedia": Intent(
            "play a song",
            (
                "wants a chosen song played",
                "asks for the track to be started on a given speaker",
                "the customer requests playback on a device at home",
            ),
            ("the tune on the kitchen speaker",),
        ),
        "RentalCars_2/GetCarsAvailable": Intent(
            "find rental cars",
            (
                "wants to see which cars are available to rent",
                "asks for a hire car for certain dates",
                "the customer looks for a rental vehicle before reserving",
            ),
            ("a vehicle needed until next week",),
        ),
        "RentalCars_2/ReserveCar": Intent(
            "reserve a rental car",
            (
                "wants to reserve a rental car that was found",
                "asks the assistant to book the hire vehicle",
                "the customer agrees to the car and confirms the booking",
            ),
            ("taking the offered vehicle",),
        ),
        "RideSharing_2/GetRide": Intent(
            "get a cab ride",
            (
                "wants a taxi or shared ride to a destination",
                "asks the assistant to call a cab for some passengers",
                "the customer requests to be picked up and driven somewhere",
            ),
            ("a luxury cab for three",),
        ),
    },
}
