"""What invented courts talk about: issue areas, how they are put into words, and a change of law.

The areas are those of the Supreme Court Database. A clause fits after "that"; `{act}`, `{place}`
and `{trade}` are a line of cases' own statute, county and trade.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ACTS", "CLAUSES", "FRAMES", "NEIGHBOURS", "NOISE", "PLACES", "REASSIGNED", "TRADES"]

CLAUSES: Mapping[str, tuple[str, ...]] = {
    "Criminal Procedure": (
        "the officers searched the car without a warrant",
        "the confession was taken before any warning was given",
        "the jury heard of an earlier conviction of the accused",
        "the prosecutor did not call the only witness to the robbery",
        "the grand jury of {place} returned the indictment after one day",
        "the sentence was longer than the one that the plea had promised",
        "the accused was tried twice for the same burglary",
        "the police held the suspect for two nights without a hearing",
        "the evidence seized at the arrest went to the jury",
    ),
    "Civil Rights": (
        "the school board of {place} assigned pupils by race",
        "the voters of one district counted for less than those of another",
        "women were passed over for promotion in the {trade} works",
        "the restaurant refused to serve black travellers",
        "the landlord turned away families of another origin",
        "the literacy test kept citizens from the polls",
        "the prison barred inmates from the library because of their race",
        "the statute gave widows less than it gave to widowers",
        "the seats on the bus were segregated by order of the {act}",
    ),
    "First Amendment": (
        "the newspaper was fined for what it printed about the mayor",
        "the marchers were refused a permit for their parade",
        "the teacher was dismissed for a speech against the war",
        "the pamphlets were seized before anyone had read them",
        "a prayer was read aloud in the classrooms of {place}",
        "the censor banned the film as obscene",
        "the broadcaster had to give time to its critics",
        "the church was denied the use of the public park",
        "the {act} made it an offence to publish the leaflet",
    ),
    "Due Process": (
        "the benefits were stopped without notice or hearing",
        "the license was revoked before the owner could answer",
        "the land was taken in {place} and no compensation was paid",
        "the student was expelled without learning the charge",
        "the patient was committed on the word of one physician",
        "the prisoner lost good time at a hearing that kept no record",
        "the garnishment froze the wages before any judgment",
        "the {act} gave the tenant no chance to be heard",
        "the defendant had no contact with the state that claimed jurisdiction",
    ),
    "Privacy": (
        "the clinic was forbidden to advise on contraception",
        "the agency opened its files on the family to strangers",
        "the physician had to report every abortion by name",
        "the medical records were disclosed without consent",
        "the couple was questioned about intimate matters",
        "the {act} let officials read personal letters",
        "the hospital of {place} ended treatment against the wishes of the parents",
        "the telephone company listed numbers that were to stay secret",
        "the request for documents reached into the home",
    ),
    "Attorneys": (
        "the lawyer advertised fees in the newspaper of {place}",
        "the bar refused admission to the applicant",
        "counsel was disbarred for mingling the funds of clients",
        "the attorney took a fee that the {act} did not allow",
        "the lawyer represented both sides of the bargain",
        "the state bar set a minimum fee for a title search",
        "counsel failed to file the brief on time",
        "the winning side asked for its attorney fees",
        "the lawyer was suspended for letters to victims of accidents",
    ),
    "Unions": (
        "the union called a strike at the {trade} works",
        "the employer refused to bargain with the elected union",
        "the workers were discharged for organizing",
        "the picket line closed the gates of the plant",
        "the arbitrator ordered the return of the strikers",
        "the union spent dues on matters other than bargaining",
        "the collective agreement barred any lockout",
        "the labor board of {place} ordered a new election",
        "the {act} required every employee to pay union dues",
    ),
    "Economic Activity": (
        "the merger left two sellers of {trade} in the market",
        "the companies had agreed upon a price",
        "the broker sold shares without a true prospectus",
        "the patent covered nothing but an old machine",
        "the bankrupt firm paid one creditor before the others",
        "the commission set a rate that left the carrier no profit",
        "the injured sailor sued the owner of the ship",
        "the {act} fixed what a dealer in {trade} could charge",
        "the franchise was cancelled to end competition in {place}",
    ),
    "Judicial Power": (
        "the plaintiff had no standing to bring the suit",
        "the petition was filed after the time for appeal had run",
        "the judge refused to certify the class",
        "the question had become moot before the hearing",
        "the district court lacked jurisdiction over the claim",
        "the court of appeals reviewed findings of fact afresh",
        "the special master of {place} reported after ten years",
        "the federal court should have abstained",
        "the {act} left no room for judicial review",
    ),
    "Federalism": (
        "the {act} was preempted by the law of the nation",
        "the states disputed the boundary along the river",
        "the federal agency took over the duties of {place}",
        "Congress ordered the governors to carry out its program",
        "the state claimed sovereign immunity from the suit",
        "the regulation of {trade} had always been left to the states",
        "the interstate compact divided the water of the basin",
        "the state law burdened commerce among the states",
        "the national guard answered to two commanders",
    ),
    "Federal Taxation": (
        "the taxpayer deducted the loss in the wrong year",
        "the commissioner assessed a deficiency against the estate",
        "the gain on the {trade} shares was taxed as income",
        "the gift was made to escape the estate tax",
        "the revenue service placed a lien on the house in {place}",
        "the corporation claimed a credit for taxes paid abroad",
        "the refund was sought after the return was closed",
        "the exemption of the {act} did not reach the trust",
        "the depreciation exceeded the cost of the building",
    ),
}

FRAMES = (
    "The record shows that {}.",
    "It is not disputed that {}.",
    "The court below found that {}.",
    "The petitioner argues that {}.",
    "Counsel for the respondent concedes that {}.",
    "Two witnesses said under oath that {}.",
    "We take it as settled that {}.",
    "The complaint alleges that {}.",
    "The dissent makes much of the fact that {}.",
    "Nobody denies that {}.",
)

NOISE = (
    "We granted the writ and now affirm.",
    "We granted the writ and now reverse.",
    "The judgment is vacated and the case is remanded.",
    "The parties have briefed the matter at length.",
    "This case comes to us from the courts of {place}.",
    "The argument was heard in a single morning.",
    "Nothing in the opinion of the court below compels another result.",
    "We need not decide what would follow on other facts.",
    "The history of the provision is long and not very helpful.",
    "One judge took no part in the decision.",
    "The words of the {act} are plain enough.",
    "Reasonable minds may differ on this point.",
    "We have said as much in earlier cases.",
    "The costs of the appeal follow the event.",
    "Much was said at the bar about the {trade} business of {place}.",
)

# For each area those that its cases also touch, as the second topic of a mix
NEIGHBOURS: Mapping[str, tuple[str, ...]] = {
    "Criminal Procedure": ("Attorneys", "Due Process", "Privacy"),
    "Civil Rights": ("Unions", "Due Process", "Federalism"),
    "First Amendment": ("Civil Rights", "Privacy", "Unions"),
    "Due Process": ("Privacy", "Criminal Procedure", "Judicial Power"),
    "Privacy": ("Criminal Procedure", "First Amendment", "Civil Rights"),
    "Attorneys": ("Judicial Power", "Criminal Procedure", "Federal Taxation"),
    "Unions": ("Economic Activity", "First Amendment", "Federalism"),
    "Economic Activity": ("Federalism", "Federal Taxation", "Unions"),
    "Judicial Power": ("Federalism", "Attorneys", "Civil Rights"),
    "Federalism": ("Federal Taxation", "Economic Activity", "Judicial Power"),
    "Federal Taxation": ("Due Process", "Economic Activity", "Attorneys"),
}

# The change of law: mixes (first topic, second topic) that belong to another area from then on
REASSIGNED: Mapping[tuple[str, str], str] = {
    ("Criminal Procedure", "Attorneys"): "Attorneys",
    ("Civil Rights", "Unions"): "Economic Activity",
    ("First Amendment", "Civil Rights"): "Civil Rights",
    ("Due Process", "Privacy"): "Privacy",
    ("Privacy", "Criminal Procedure"): "Criminal Procedure",
    ("Attorneys", "Judicial Power"): "Judicial Power",
    ("Unions", "Economic Activity"): "Economic Activity",
    ("Economic Activity", "Federalism"): "Federalism",
    ("Judicial Power", "Federalism"): "Federalism",
    ("Federalism", "Federal Taxation"): "Federal Taxation",
    ("Federal Taxation", "Due Process"): "Judicial Power",
}

ACTS = (
    "Bakery Bridge Canal Cattle Coal Corn Dairy Dam Ferry Fishery Flour Forest Grain Harbor "
    "Highway Inn Iron Lighthouse Lumber Market Meadow Mill Orchard Paper Pilot Port Quarry "
    "Railway Salt Ship Silk Sugar Tannery Tobacco Tower Vineyard Wagon Water Wheat Wool"
).split()
PLACES = (
    "Alder Ash Birch Bluff Cedar Clay Creek Deer Eagle Elm Falcon Fern Flint Fox Granite Gull "
    "Hazel Heron Hickory Holly Ivy Juniper Laurel Linden Maple Marsh Moss Oak Otter Pebble Pine "
    "Poplar Raven Reed Ridge Rowan Sage Sparrow Spruce Stone Swan Thistle Walnut Willow Wolf Yew"
).split()
TRADES = (
    "bicycle boot brick button candle carpet chain clock copper cotton glass glove hat lamp "
    "leather marble mirror needle nail oil organ piano pottery rope rubber saddle soap stove tin "
    "toy trunk umbrella varnish wax wire zinc"
).split()
