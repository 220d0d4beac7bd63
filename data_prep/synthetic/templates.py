"""The wording of the synthetic notes, a template for each of MIMIC-III's categories.

How a template reads: a plain line is one sentence, with its alternatives between bars (one is chosen; it may
be empty), and follows the sentence above in the same paragraph. What begins with `=` stands on a line of its own.
A blank line stays blank. A name in angle brackets stands for the alternatives of `PHRASES`, one of which is chosen at
each place, so that a fact is told in many words. Names in braces are facts of the patient and of the note, filled in by `synthetic.py`.
"""

# ruff: noqa: E501  (a sentence and its alternatives are one line, however long)

DISCHARGE_SUMMARY = """\
=Admission Date:  [**{admitted}**]              Discharge Date:   [**{discharged}**]

=Date of Birth:  [**{born}**]             Sex:   {sex}

=Service: {SERVICE}

=Allergies:
={allergy}

=Attending:[**First Name3 (LF) {doctor}**]

=Chief Complaint:
=Transfer for {symptom1} and {symptom2} | ={symptom1}

=Major Surgical or Invasive Procedure:
={study} on [**{admitted}**]

=History of Present Illness:
{Mr} [**Known lastname {name}**] is {an} {age} year old {man} with a history of {past1} and {past2} who presents with {symptom1}. | This is {an} {age} year-old {man} with {past1}, {past2} and {risk}, presenting with {symptom1}.
{He} was well until {duration} days ago, when {he} noticed {symptom2}. | For {duration} days {he} has had {symptom2}.
Then {he} developed {symptom3}, and {his} {kin} brought {him} to [**Hospital{hospital}**]. | {His} {kin} called Dr. [**Last Name (STitle) {doctor}**] when {symptom3} began.
In the emergency department the temperature was {temp}, the heart rate {pulse} and the blood pressure {systolic}/{diastolic}.
The {lab} was {lab1}{unit}. | Laboratory tests showed a {lab} of {lab1}{unit}.
<ADMISSION>
<SYMPTOMS>
{He} was given {drug} {dose} in the emergency department. | {Drug} was started there.

=Past Medical History:
=1. {Past1}
=2. {Past2}
=3. {Risk}

=Social History:
{He} lives with {his} {kin} in [**Location (un) {place}**].
<FAMILY>
{He} denies tobacco and alcohol. | {He} quit smoking in [**{year}**]. | {He} drinks a glass of wine with dinner.

=Family History:
Noncontributory. | {His} father had {past2}, and {his} mother died at the age of [**Age over 90 **]. | {His} brother has {past1}.

=Physical Exam:
=VS: T {temp} BP {systolic}/{diastolic} HR {pulse} RR {resp} O2 sat {sat}% RA
=GENERAL: Tired appearing {man}, in no acute distress. | =GENERAL: {age} year old {man}, uncomfortable from {symptom1}.
=HEENT: NCAT. Sclera anicteric. PERRL, EOMI.
=MAIN FINDING: On examination there was {exam}.
=SKIN: No rashes. No ulcers. | =EXTREMITIES: Warm, well perfused.

=Pertinent Results:
=[**{admitted}**] 07:00AM   {LAB}-{lab1}*
=[**{discharged}**] 06:10AM   {LAB}-{lab3}
=Chem-7: Na-{sodium} K-{potassium} Cl-{chloride} HCO3-{bicarbonate} Glucose-{glucose}
={study} [**{admitted}**]: {finding1} {finding2} {finding3}
=IMPRESSION: {Impression}.
=ECG: {Rhythm}.
=ECHO: {echo}.

=Brief Hospital Course:
{Mr} [**Known lastname {name}**] is {an} {age} year old {man} admitted with {qualifier} {disease} caused by {cause}.

=# {Disease}:
The patient presented with {symptom1} and {symptom2}, and {exam} was found. | {His} {symptom1} and {symptom3} were explained by {disease}.
The {study} showed {impression}, consistent with {disease}. | {Impression} was seen on the {study}.
{Drug} {dose} was started for {cause}. | {He} was treated with {drug} {dose}, because {cause} was the cause of the {disease}.
{He} also received {support}.
The {service} service was consulted and agreed with {drug}. | {Service} recommended to continue {drug}.
={course}
The hospital course was complicated by {complication}, which resolved with {support}. |  | {He} had no {complication}.
By discharge the {lab} had come from {lab1} to {lab3}. | The {lab} was {lab3}{unit} at discharge, from {lab1}{unit} at admission.

=# {Past1}: {Drug1} {dose1} was continued for {past1}.

=# {Past2}: The patient was stable on {drug2} {dose2} for {past2}.

=# FEN: {Diet}. Electrolytes were repleted. | =# CODE: Full, confirmed with {his} {kin}.

=Medications on Admission:
=1. {Drug1} {dose1}
=2. {Drug2} {dose2}

=Discharge Medications:
={medications}

=Discharge Disposition:
=Home With Service | =Extended Care | =Home

=Facility:
=[**Hospital{hospital} **] - [**Location (un) {place}**]

=Discharge Diagnosis:
=Primary: {qualifier} {disease}
=Secondary: {past1}, {past2}

=Discharge Condition:
Mental Status: Clear and coherent. | Mental status at {his} baseline.
Level of Consciousness: Alert and interactive.
The {symptom1} had resolved. | {He} no longer had {symptom1} or {symptom2}.

=Discharge Instructions:
=Dear {Mr} [**Known lastname {name}**],
You were admitted to the hospital for {disease}.
You came with {symptom1} and {symptom2}.
We treated you with {drug} and {support}. | You were given {drug}, and you improved.
Please {advice}.
Please call Dr. [**Last Name (STitle) {doctor}**] if you have {symptom1}, {symptom2} or {symptom3}.

=Followup Instructions:
=Provider: [**Name10 (NameIs) {doctor}**], MD Phone:[**Telephone/Fax (1) {phone}**] Date/Time:[**{followup}**] {hour}:30
Please follow up with {service} within two weeks for your {disease}.

=                             [**First Name8 (NamePattern2) **] [**Name8 (MD) {doctor}**] MD [**MD Number(2) {phone}**]
"""

# One day of the stay inside a discharge summary's course.
COURSE_DAY = """\
On hospital day {day} {he} was on {drug} {dose}, with a {lab} of {lab2}. | On hospital day {day} the {lab} was {lab2}{unit}, and {drug} was continued. | On day {day} of {drug} the {symptom1} was improving.
The nurses addressed {problem}, with attention to {watch}. | The {service} team followed {watch}. | {Symptom2} persisted, and {support} was continued. | There was less {symptom2}, and {he} tolerated a {diet}.
<ANY>
"""

RADIOLOGY = """\
=[**{date}**] {hour}:{minute} {ampm}
= {study}                                           Clip # [**Clip Number (Radiology) {clip}**]
= Reason: {symptom1}, evaluate for {disease}
= Admitting Diagnosis: {DISEASE}
=______________________________________________________________________________
={blank}
= UNDERLYING MEDICAL CONDITION:
=  {age} year old {man} with {qualifier} {disease} | =  {age} year old {man} with {symptom1} and {symptom2}
= REASON FOR THIS EXAMINATION:
=  evaluate for {disease} | =  interval change of {disease} on {drug}
= No contraindications for IV contrast |
=______________________________________________________________________________

=                                 FINAL REPORT
=HISTORY:  {age}-year-old {man} with {symptom1}. | =HISTORY:  Inpatient treated for {qualifier} {disease}. | =INDICATION:  {Symptom1} and {symptom2} in a patient with {disease}.

=COMPARISON:  [**{admitted}**]. | =COMPARISON:  None.

=TECHNIQUE:  {study}, compared at the same window settings. |=TECHNIQUE:  Standard protocol for {study}, read on the workstation.

=FINDINGS:
{finding1}
{finding2}
{finding3}
These findings fit the clinical picture of {qualifier} {disease}. | Given the {symptom1}, this suggests {disease}. | The appearance is that of {disease}.
There is no sign of {complication}. | Attention to {complication} on follow-up is advised.
As compared to the previous study, there is little change. |  | Tubes and lines are in unchanged position.

=IMPRESSION:  {Impression}.
= |=1. Clinical correlation with the {lab} is advised. |=Findings were discussed with Dr. [**Last Name (STitle) {doctor}**] at {hour}:45 {ampm} on [**{date}**] by telephone.
"""

ECG = """\
{Rhythm}.
Compared to the previous tracing of [**{admitted}**] no diagnostic interim change. | Since the previous tracing the rate is faster. | No previous tracing available for comparison.
Clinical correlation is suggested for {disease}. | Consider {complication} in a patient with {disease}. |
=  Intervals Axes
=Rate PR QRS QT/QTc P QRS T
={pulse} 1{minute} {height} {intake}/4{minute} {oxygen} -{resp} {hour}
"""

ECHO = """\
=PATIENT/TEST INFORMATION:
=Indication: {Disease}. {Symptom1}.
=Height: (in) {height}
=Weight (lb): {weight}
=BP (mm Hg): {systolic}/{diastolic}
=HR (bpm): {pulse}
=Status: Inpatient
=Date/Time: [**{date}**] at {hour}:{minute}
=Test: TTE (Complete)
=Doppler: Full Doppler and color Doppler
=Contrast: None
=Technical Quality: Adequate | =Technical Quality: Suboptimal

=INTERPRETATION:

=Findings:

=LEFT ATRIUM: Normal LA size. | =LEFT ATRIUM: Mild LA enlargement.

=RIGHT ATRIUM/INTERATRIAL SEPTUM: No ASD by 2D or color Doppler. Normal IVC diameter.

=LEFT VENTRICLE: {echo}.

=RIGHT VENTRICLE: Normal RV wall thickness. | =RIGHT VENTRICLE: RV function depressed.

=AORTA: Normal aortic diameter at the sinus level. Focal calcifications in the aortic root.

=AORTIC VALVE: Mildly thickened aortic valve leaflets (3). No AR. | =AORTIC VALVE: Three leaflets, no AS.

=MITRAL VALVE: Mildly thickened mitral valve leaflets. Trivial MR. | =MITRAL VALVE: No MVP. Mild (1+) MR.

=TRICUSPID VALVE: Indeterminate PA systolic pressure. | =TRICUSPID VALVE: Mild [1+] TR.

=PERICARDIUM: No pericardial effusion.

=GENERAL COMMENTS: Suboptimal image quality - patient with {symptom1}. |

=Conclusions:
{echo}.
The rhythm during the study was {rhythm}. |
The findings are of interest in a patient admitted for {qualifier} {disease}. | Compared with the report of the prior study of [**{admitted}**], the finding fits {disease}.
"""

NURSING = """\
={age} yo {man} with pmh of {past1} and {past2}, admitted for {qualifier} {disease}, treated with {drug}. | =Hospital day {day} of {qualifier} {disease}.
<ADMISSION>
<PAIN>
<BLOOD>
<DRUG>
<SERVICE>

=[**Last Name **] Problem - {Problem}
=Assessment:
Pt alert and oriented x3, with {symptom1}. | Pt anxious, complaining of {symptom1} and {symptom2}.
HR {pulse}, {rhythm}, BP {systolic}/{diastolic}, RR {resp}, sats {sat}% on {oxygen}L NC.
On exam {exam}.
{Lab} {lab2}{unit}, from {lab1}{unit}. | Latest {lab} is {lab2}.
=Action:
{Drug} {dose} given for {disease} as ordered.
Monitored {watch}. | Followed {watch} every four hours.
{Support} provided per {service} team. | {Service} aware of {symptom2}.
=Response:
{Symptom1} improved after {drug}. | Pt states less {symptom1} since {drug}. | Continues with {symptom2}.
No {complication} noted this shift. | {Complication} noted, HO aware, {support} continued.
=Plan:
Continue {drug} {dose}, follow {lab}, monitor {watch}.
{Diet}. | Advance to {diet}.
<FAMILY>
Support to pt and {kin}. | [**Name (NI) {kin}**] updated by Dr. [**Last Name (STitle) {doctor}**].

=[**Last Name **] Problem - {Past1}
=Assessment:
History of {past1}, on {drug1} at home.
=Action:
{Drug1} {dose1} given. | {Drug1} held for SBP {systolic}.
=Response:
No change in {past1}. | Pt tolerated {drug1}.
=Plan:
Continue {drug1}.

=[**Last Name **] Problem - {Past2}
=Assessment:
{Past2} is stable on {drug2} {dose2}. | Pt takes {drug2} for {past2} at home.
=Action:
{Drug2} given with breakfast. | Asked Dr. [**Last Name (STitle) {doctor}**] to reorder {drug2}.
=Response:
No complaints related to {past2}. | Pt asks about {past2} and about going home with {disease}.
=Plan:
Teach about {drug}: {advice}. | Continue {drug2}, and encourage {diet}.
"""

NURSING_OTHER = """\
=NPN 7p-7a | =CCU Nursing Progress Note | =MICU nursing note {hour}p | =focus; update
=S: "I still have some {symptom1}" | =S: Pt denies {symptom1}.
=O: T {temp} HR {pulse} BP {systolic}/{diastolic} RR {resp} O2 sat {sat}%. See careview for details.
CV: {rhythm}, no ectopy.
RESP: on {oxygen}L NC, sat {sat}%.
Pt w/ {exam}.
ID/LABS: {lab} {lab2}, was {lab1}; on {drug} {dose}. | LABS: K {potassium}, Na {sodium}, {lab} {lab2}.
NEURO: A&Ox3, MAE, {symptom2} at times. | NEURO: sleepy but arousable, follows commands.
SKIN: intact. | SKIN: see flowsheet, turned q2h.
GI/GU: {diet}, u/o 40-60cc/hr. | Foley draining clear yellow urine.
<ADMISSION>
<SYMPTOMS>
<DRUG>
<PAIN>
<PAST>
<BLOOD>
<FAMILY>
<SERVICE>
=A: {age} yo {man} admitted for {qualifier} {disease}, hospital day {day}, {symptom1} improving on {drug}. | =A: {disease} due to {cause}, {symptom2} unchanged.
=P: cont {drug}, follow {watch}, {service} to see pt. | =P: monitor {watch}, cont {support}.
=[**First Name11 (Name Pattern1) {name}**] {kin} called, updated on {disease}. |
"""

PHYSICIAN = """\
=Chief Complaint:  {symptom1}
=24 Hour Events:
={study} - At [**{date}**] {hour}:{minute} {ampm}: {impression}.
=Still has {symptom2}. {Drug} continued. |= {Service} consulted for {disease}.
=History obtained from [**Hospital{hospital} **] Medical records, patient
=Allergies:
={allergy}
=Last dose of Antibiotics:
=Infusions:
=Other ICU medications:
={Drug} - [**{date}**] {hour}:00 {ampm}
=Other medications:
={drug1} {dose1}, {drug2} {dose2}
=Past medical history: {past1}, {past2}, {risk}
=Review of systems is unchanged from admission except as noted below
=Review of systems: {symptom1}, {symptom3}
=Flowsheet Data as of  [**{date}**] {hour}:{minute} {ampm}
=Vital signs
=Hemodynamic monitoring
=Fluid Balance
=                                                                  24 hours
=                                                            Since [**97**] AM
=Tmax: {temp}
=HR: {pulse} ({pulse} - 118) bpm
=BP: {systolic}/{diastolic}({mean}) {{{systolic}/{diastolic}({mean}) - 151/82(98)}} mmHg
=RR: {resp} ({resp} - 29) insp/min
=SpO2: {sat}%
=Heart rhythm: {rhythm}
=Total In:                                                   1,{intake} mL
=PO:
=TF:
=IVF:                                                          {intake} mL
=Blood products:
=Total out:                                                    {output} mL
=Urine:                                                        {output} mL
=Balance:                                                      {balance} mL
=Respiratory support
=O2 Delivery Device: Nasal cannula
=SpO2: {sat}%
=ABG: ///{bicarbonate}/
=Physical Examination
=General Appearance: Uncomfortable from {symptom1} | =General Appearance: Well nourished
=Cardiovascular: (S1: Normal), (S2: Normal)
=Peripheral Vascular: (Right radial pulse: Present), (Left radial pulse: Present)
=Pertinent finding: {exam}
=Skin: Warm
=Neurologic: Attentive, Follows simple commands, Responds to: Not assessed
=Labs / Radiology
=             WBC    Hct    Plt    Na    K     Cr    Glucose
=[**{admitted}**]  {wbc}   {hct}  {plt}   {sodium}   {potassium}   {cr}   {glucose}
=[**{date}**]  {wbc}   {hct}  {plt}   {sodium}   {potassium}   {cr}   {glucose}
=Other labs: {Lab}:{lab2}{unit}
=Imaging: {finding1} {finding2}
=ECG: {rhythm}
=Microbiology: pending

=Assessment and Plan
{age} yo {man} with {past1} and {past2} admitted for {qualifier} {disease} from {cause}. | This is hospital day {day} for this {age} yo {man} with {qualifier} {disease}.
{He} presented with {symptom1}, {symptom2} and {symptom3}.
<SYMPTOMS>
<DRUG>
<PAST>
<SERVICE>

=# {Disease}: likely due to {cause}.
The {study} shows {impression}.
<BLOOD>
The {lab} has gone from {lab1} to {lab2}. | {Lab} now {lab2}{unit}.
=- continue {drug} {dose}, day {day}
=- {support}
=- appreciate {service} recommendations
=- monitor {watch}
=- watch for {complication}

=# {Past1}: stable.
=- continue {drug1} {dose1}

=# {Past2}: no acute issues.
=- hold {drug2} for now | =- continue {drug2} {dose2}

={course}

=ICU Care
=Nutrition: {Diet}
=Glycemic Control: Regular insulin sliding scale |
=Lines:
=18 Gauge - [**{admitted}**] {hour}:{minute} {ampm}
=Prophylaxis:
=DVT: SQ UF Heparin | =DVT: Boots
=Stress ulcer: PPI
=Communication:  Comments: {kin} at [**Telephone/Fax (1) {phone}**]
=Code status: Full code
=Disposition: ICU | =Disposition: Transfer to floor
"""

RESPIRATORY = """\
=Demographics
=Day of mechanical ventilation: {day}
=Ideal body weight: {weight} None
=Airway
=Airway Placement Data
=Tube Type
=ETT:
=Position: 22 cm at teeth
=Route: Oral
=Type: Standard
=Size: 7.5mm
=Lung sounds
=RLL Lung Sounds: Diminished | =RLL Lung Sounds: Rhonchi
=LLL Lung Sounds: Diminished | =LLL Lung Sounds: Clear
=Comments: {exam}
=Secretions
=Sputum color / consistency: White / Thick | =Sputum color / consistency: Yellow / Thick
=Ventilation Assessment
=Level of breathing assistance: Continuous invasive ventilation
=Visual assessment of breathing pattern: RR {resp}, sat {sat}%
=Plan
=Next 24-48 hours: Wean FiO2 as the {disease} improves; {support}.
=Reason for continuing current ventilatory support: {qualifier} {disease} with {symptom1}
"""

NUTRITION = """\
=Subjective
=Patient reports {symptom1} and poor appetite. {Kin} at bedside.
=Objective
=Height
=Admit weight
=Daily weight
=Weight change
=BMI
={height} in
={weight} lb
=Ideal body weight: {weight} lb
=Diagnosis: {DISEASE}
=PMH: {past1}, {past2}
=Food allergies and intolerances: {allergy}
=Pertinent medications: {drug} {dose}, {drug1}, {drug2}
=Labs: Glucose {glucose} mg/dL, Na {sodium}, K {potassium}, {lab} {lab2}
=Current diet order / nutrition support: {Diet}
=GI: soft, positive bowel sounds
=Assessment of Nutritional Status
At risk for malnutrition due to {symptom2} and {disease}.
{age} year old {man} admitted for {qualifier} {disease}, with a history of {past1}.
{He} has eaten less since {symptom1} began. | {He} tolerates about half of the meals.
=Medical Nutrition Therapy Plan - Recommend the Following
=1) {Diet}
=2) Check {lab} daily
=3) Will follow, page [**Numeric Identifier {phone}**] with questions
"""

GENERAL = """\
=TITLE: Event note
Called to see the patient at {hour}:{minute} {ampm} for {symptom1}.
<ADMISSION>
<PAIN>
The patient is on {drug} {dose}.
Temperature {temp}, heart rate {pulse}, blood pressure {systolic}/{diastolic}, saturation {sat}%.
On examination there was {exam}.
The {lab} was {lab2}{unit}.
The event is most likely {complication} in the setting of {disease}.
Plan: {support}, continue {drug}, and discuss with {service}.
"""

REHAB = """\
=Subjective:
"I want to go home to my {kin}." | "I am tired."
=Objective:
=Follow up PT visit to address goals of: [**{admitted}**]. Patient seen and evaluated.
=Medical Dx / ICD 9: {disease} / {code}
=Reason of referral: {symptom1}, Eval & Treat
=History of Present Illness / Subjective Complaint: {age} yo {man} admitted for {qualifier} {disease}, presenting with {symptom1} and {symptom2}, treated with {drug}.
=Past Medical / Surgical History: {past1}, {past2}
=Medications: {drug}, {drug1}, {drug2}
=Radiology: {finding1}
=Labs: {lab} {lab2}
=Activity:
=Clarification: I: independent, S: supervision, CG: contact guard, Min: minimal assist
=Rolling: T. Supine/Sidelying to Sit: Min. Sit to Stand: CG.
=Aerobic Activity Response:
=HR {pulse}, BP {systolic}/{diastolic}, RR {resp}, O2 sat {sat}%
=Gait: ambulated {intake} feet with rolling walker, limited by {symptom1}
=Education / Communication: Discussed with RN {watch}.
=Assessment: {age} yo {man} with {disease} making progress, limited by {symptom2}.
=Anticipated Discharge: Rehab | =Anticipated Discharge: Home with PT
=Plan: Continue with PT, 3-5x/wk
"""

SOCIAL_WORK = """\
Social Work note:
Met with {Mr} [**Known lastname {name}**] and {his} {kin}.
{He} is {an} {age} year old {man} admitted for {qualifier} {disease}.
{He} says that {symptom1} frightened {him}. | {His} {kin} is worried about the {disease}.
{He} lives in [**Location (un) {place}**], and retired in [**{year}**].
{He} has trouble paying for {drug1}, which {he} takes for {past1}. | {He} manages {his} {drug1} and {drug2} alone.
The team explained that {he} must {advice}.
SW provided support, and will follow while {he} receives {drug} for {disease}.
Please page [**Numeric Identifier {phone}**] with questions.
"""

CASE_MANAGEMENT = """\
Insurance information: primary insurance is [**Company {place}**].
{age} yo {man} admitted for {qualifier} {disease} on [**{admitted}**].
Current treatment is {drug} {dose} with {support}, followed by {service}.
Functional status: independent before the {symptom1}.
Anticipated discharge plan: VNA for {drug}, and teaching to {advice}.
"""

PHARMACY = """\
=ASSESSMENT:
=Subjective
{age} yo {man} on {drug} {dose} for {qualifier} {disease} from {cause}.
=Objective
={Drug}: {dose}. {Drug1}: {dose1}. {Drug2}: {dose2}.
=Cr {cr}, {lab} {lab2}, allergy: {allergy}
=Plan
No interaction of {drug} with {drug1} or {drug2}.
Continue {drug}, and follow {watch}.
"""

CONSULT = """\
=TITLE: {Service} consult
=Reason for consult: {disease}
Asked by Dr. [**Last Name (STitle) {doctor}**] to see this {age} year old {man} for {symptom1}.
{He} came to the hospital with {qualifier} {disease}, and had {symptom1}, {symptom2} and {symptom3}.
=PMH: {past1}, {past2}, {risk}
=Meds: {drug} {dose}, {drug1} {dose1}, {drug2} {dose2}
=Exam: T {temp}, HR {pulse}, BP {systolic}/{diastolic}, with {exam}
=Data: {lab} {lab1}, now {lab2}; {study}: {impression}. {Rhythm}. {echo}.
=Impression:
{Qualifier} {disease} due to {cause}, at risk of {complication}.
=Recommendations:
=1. Continue {drug} {dose}.
=2. Add {support}.
=3. Follow {watch} and the {lab}.
=4. {Diet}.
"""

# One sentence each, in which a fact is told in other words at every place.
PHRASES = {
    name: text.strip().replace("\n", " | ")
    for name, text in {
        "<ADMISSION>": """
{He} was admitted with {qualifier} {disease}.
{He} was admitted for {qualifier} {disease} on [**{admitted}**].
{He} was hospitalized for {qualifier} {disease}.
{Mr} [**Known lastname {name}**] came in for {qualifier} {disease}.
The patient has {qualifier} {disease}.
The patient was treated for {qualifier} {disease} in the past week.
The reason for admission was {qualifier} {disease}.
The diagnosis is {qualifier} {disease}.
The family was told about the {qualifier} {disease}.
{His} {kin} says that {he} came because of {qualifier} {disease}.
We think that {he} has {qualifier} {disease}.
The doctor says this is {qualifier} {disease}.
The emergency room sent {him} up for {qualifier} {disease}.
{He} is recovering from {qualifier} {disease}.
The patient was transferred here with {qualifier} {disease}.
This was {qualifier} {disease}, as {his} {kin} feared.
The family says it was {qualifier} {disease} the last time too.
{He} has {qualifier} {disease} once more.
""",
        "<SYMPTOMS>": """
{He} was bothered by {symptom1} and {general1}.
{He} is bothered by {general1} and {general2}.
What bothered {him} most was {general2} and {general1}.
{He} also had {general1} and {general2}.
{He} complained of {general1} and {general2} at home.
The {kin} noticed {general1} and {symptom1}.
There was no {general1} or {general2}.
Most of the time {he} was troubled by {general1}, and then by {general2}.
On the way here {he} felt {general1} and {general2}.
The main complaints were {symptom1}, {general1} and {general2}.
{General1} and {general2} began {duration} days ago.
""",
        "<DRUG>": """
{He} received {drug} for {disease}.
{He} received {drug} {dose} for {qualifier} {disease}.
{Drug} was started for {disease}.
In the ambulance {he} received {drug} for the {disease}.
The emergency room gave {him} {drug} for {disease}.
On arrival {he} received {drug} for {disease}.
{He} received {drug} in the emergency room because of {disease}.
In the emergency department {he} was given {drug} for {disease}.
On the ward {he} was given {drug} for {disease}.
Overnight {he} was treated with {drug} for {disease}.
The {disease} was treated with {drug}.
We chose {drug} for {disease} and continued {drug1} for {past1}.
""",
        "<PAIN>": """
{He} reports {grade} {site} pain.
{He} had {grade} {site} pain this morning.
{Site} pain was {grade} since yesterday.
There was {grade} {site} pain overnight.
The {site} pain has been {grade}, and {he} was given {painkiller}.
{Painkiller} was given for {grade} {site} pain.
{He} complains of {site} pain.
There is no {site} pain this morning.
Since the night {he} has had {grade} {site} pain.
""",
        "<PAST>": """
{His} past history includes {past1} and {past2}.
{He} also has {past1} and {past2}.
Other illnesses are {past1} and {past2}.
The other illnesses include {past2} and {past1}.
{He} is known to have {past2} and {past1}.
At home {he} takes {drug1} for {past1} and {drug2} for {past2}.
The past illnesses are {past2}, {past1} and {risk}.
{His} {kin} has {past2} and {past1} as well.
""",
        "<BLOOD>": """
The {chemistry} was {level} this morning.
Blood tests showed a {level} {chemistry}.
The blood test showed a {level} {chemistry}.
This morning the blood showed a {level} {chemistry}.
The laboratory called about a {level} {chemistry}.
There was a {level} {chemistry} on the blood test of yesterday.
The doctor was told of the {level} {chemistry}.
Repeat the blood test for a {level} {chemistry}.
""",
        "<FAMILY>": """
{He} lives with {his} {kin}.
{His} {kin} visited and asked about the {disease}.
{He} was brought in by {his} {kin}.
{He} lives alone since {his} {relative} died.
After the death of {his} {relative} {he} moved in with {his} {kin}.
{He} lives alone, and {his} {kin} comes every day.
{He} spoke about the death of {his} {relative}.
The news was given to {his} {kin} this morning.
""",
        "<SERVICE>": """
{Service} was called to see {him}.
{Service} was called in to see {him}.
A doctor was called from {service}.
{Service} saw {him} this morning.
A doctor from {service} came to see {him}.
A specialist from {service} was asked to help.
The specialist in {service} agreed with {drug}.
We called {service} about the {disease}.
{He} was seen by {service}, and will be seen again.
Someone from {service} will come in the morning.
{He} was seen by a specialist from {service}.
The specialist came from {service}.
A doctor from {service} was called in.
We asked someone from {service} to see {him} today.
""",
    }.items()
}
PHRASES["<ANY>"] = " | ".join(PHRASES.values())

# Added to a note that is otherwise the one before it.
ADDENDUM = "Addendum [**{date}**] {hour}:{minute} {ampm}: {Symptom1} unchanged, {lab} {lab2}{unit}, {drug} continued."
