"""The words that tell sentences and sections apart: abbreviations, and the names of sections."""


def _words(listed: str, separator: str | None = None) -> frozenset[str]:
    return frozenset(" ".join(word.split()) for word in listed.split(separator))


# Abbreviations, in lower case and without their last stop. After these no sentence ends.
NEVER_END = _words(
    """al approx b/c ca capt cf col d/t dept dr drs e.g esp est excl fig figs gen hon i.e incl jr lt
    miss mr mrs ms mt prev prof r/o ref refs rev s/p sgt sr st tel viz vs w"""
)

# After these one ends only if the next word has a capital.
RARELY_END = _words(
    """a.c a.m abd admin ant apr aug av avg b.i.d bid bilat c/o cap caps cc cm co cont corp d/c dc dec dist dx
    etc ext f/u feb fri ft fx gtt gtts h.s h/o hr hrs hx i.m i.v inc inf inj jan jul jun kg lat lb lbs ltd
    mar max mcg med mg min mins ml mm mo mon mos n.p.o neg neuro nl nov o.d o.s o.u oct oz p.c p.m p.o p.r
    p.r.n po pos post prn prox pt pts q q.a.m q.d q.h q.h.s q.i.d q.o.d q.p.m qd qhs qid resp rx s.c s.l s.q
    sat sec secs sep sept sol sun subcu subcut subq sup supp susp sx t.i.d tab tabs temp thu tid tue tx u.s
    units wed wk wks wnl yo yr yrs"""
)

# After these none ends if a number follows.
BEFORE_NUMBER = _words("""approx art ca ch dr fig figs no nos p pp ref rm room sec vol""")

# A capital letter before these is an end ("hepatitis B. She"), before others an initial ("John A. Smith").
BEGINNERS = _words(
    """A After All Also An As At Before Both Continue He Her His However I If In Is It No Not On Our Patient
    Please Pt She Since That The Their Then There These They This Those Upon Was We When While Will With"""
)

# What is counted by letters: after "vitamin K." a sentence may end whatever follows.
LETTERED = _words("""child class factor grade group hemoglobin hepatitis influenza protein stage type vitamin""")

# Sections of one meaning under several names. The right side: the name they share.
SAME_SECTION = {
    "hpi": "history of present illness",
    "present illness": "history of present illness",
    "history of the present illness": "history of present illness",
    "cc": "chief complaint",
    "pmh": "past medical history",
    "pmhx": "past medical history",
    "psh": "past surgical history",
    "fh": "family history",
    "sh": "social history",
    "ros": "review of systems",
    "pe": "physical exam",
    "exam": "physical exam",
    "physical examination": "physical exam",
    "meds": "medications",
    "current medications": "medications",
    "labs": "laboratory data",
    "lab": "laboratory data",
    "laboratory": "laboratory data",
    "pertinent results": "laboratory data",
    "a/p": "assessment and plan",
    "a&p": "assessment and plan",
    "assessment/plan": "assessment and plan",
    "assessment & plan": "assessment and plan",
    "brief hospital course": "hospital course",
}

# Sections known by name, whether or not they stand in capitals or before a colon.
KNOWN_SECTIONS = (
    frozenset(SAME_SECTION)
    | frozenset(SAME_SECTION.values())
    | _words(
        """addendum | admission diagnosis | admission medications | admitting diagnosis |
    allergies | anesthesia | assessment | attending | cardiovascular | clinical history | code status |
    comparison | complications | condition | condition on discharge | consultation | course in hospital |
    description | description of operation | description of procedure | diagnoses | diagnosis | discharge |
    discharge condition | discharge diagnoses | discharge diagnosis | discharge disposition
    | discharge instructions | discharge medications | discharge physical | disposition | estimated blood
    loss | facility | final diagnosis | final report | findings | follow-up | followup | followup
    instructions | gross description | history | home medications | images | immunizations | impression |
    indication | indications | instructions | interpretation | interval history | major surgical or invasive
    procedure | medical history | medications on admission | medications on discharge | microbiology |
    neurologic | neurological | neurological exam | objective | operation | operative findings | operative
    procedure | past history | pathology | physical examination on admission | plan | plans | postoperative
    diagnosis | preoperative diagnosis | problem list | procedure | procedures | prognosis | radiology |
    reason for consultation | reason for exam | reason for this examination | reason for visit |
    recommendations | respiratory | results | service | specimen | specimens | studies | subjective |
    summary | surgical history | technique | title of operation | treatment | vital signs | vitals""",
        "|",
    )
)
