"""The invented medicine of the synthetic notes: sixteen diseases and what goes with each.

What a note says follows from one row here, so its words predict one another: the kind of the disease predicts
its cause and its drug, the disease its findings, laboratory value, service and advice. None of it is from a real
record, and none of it is medical advice. `{side}` is 'left' or 'right', the same for everything of a patient.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One form of a disease: what the note calls it, what caused it, and the drug and dose given."""

    qualifier: str
    cause: str
    drug: str
    dose: str


@dataclass(frozen=True)
class Disease:
    """A disease, how often it occurs, and what follows from it in every note of a patient who has it."""

    name: str
    weight: int
    kinds: tuple[Kind, ...]
    symptoms: tuple[str, str, str]
    risk: str
    exam: str
    study: str
    findings: tuple[str, str, str]  # sentences of the report
    impression: str
    lab: str
    lab_range: tuple[float, float]  # on a good day, and at admission
    lab_unit: str
    support: str  # the second treatment
    service: str
    complication: str
    rhythm: str
    echo: str
    problem: str  # what the nurse watches
    watch: str
    diet: str
    advice: str


DISEASES = (
    Disease(
        name="pneumonia",
        weight=5,
        kinds=(
            Kind("community-acquired", "Streptococcus pneumoniae", "ceftriaxone", "1 g IV daily"),
            Kind("bacterial", "Haemophilus influenzae", "levofloxacin", "750 mg IV daily"),
            Kind("aspiration", "oral anaerobes", "clindamycin", "600 mg IV q8h"),
            Kind("viral", "influenza A", "oseltamivir", "75 mg PO b.i.d."),
            Kind("severe", "Pseudomonas aeruginosa", "cefepime", "2 g IV q8h"),
        ),
        symptoms=("productive cough", "fever", "shortness of breath"),
        risk="heavy smoking",
        exam="crackles at the {side} lung base",
        study="CHEST (PA & LAT)",
        findings=(
            "There is a new consolidation in the {side} lower lobe of the lung.",
            "A small {side} pleural effusion is present.",
            "There is no pneumothorax, and the heart is not enlarged.",
        ),
        impression="{side} lower lobe pneumonia with a small effusion",
        lab="white blood cell count",
        lab_range=(6.5, 18.5),
        lab_unit="K/uL",
        support="albuterol nebulizers",
        service="Pulmonary",
        complication="hypoxia",
        rhythm="sinus tachycardia",
        echo="Left ventricular systolic function is normal (LVEF>55%)",
        problem="impaired gas exchange",
        watch="oxygen saturation and sputum",
        diet="regular diet with aspiration precautions",
        advice="use the incentive spirometer every hour and finish the antibiotics",
    ),
    Disease(
        name="heart failure",
        weight=3,
        kinds=(
            Kind("congestive", "long-standing hypertension", "furosemide", "20 mg PO daily"),
            Kind("decompensated", "dietary indiscretion", "furosemide", "40 mg IV b.i.d."),
            Kind("acute on chronic", "missed doses of a diuretic", "bumetanide", "1 mg IV b.i.d."),
            Kind("severe", "ischemic cardiomyopathy", "torsemide", "20 mg PO daily"),
        ),
        symptoms=("orthopnea", "leg swelling", "weight gain"),
        risk="a high salt intake",
        exam="jugular venous distension and pitting edema of both legs",
        study="CHEST (PORTABLE AP)",
        findings=(
            "The heart is enlarged, with pulmonary vascular congestion.",
            "There are bilateral pleural effusions, larger on the {side}.",
            "Interstitial edema is seen in both lungs.",
        ),
        impression="cardiomegaly with pulmonary edema",
        lab="BNP",
        lab_range=(420, 3900),
        lab_unit="pg/mL",
        support="a fluid restriction of 1.5 liters",
        service="Cardiology",
        complication="hypotension",
        rhythm="sinus rhythm with left bundle branch block",
        echo="The left ventricle is dilated with severe global hypokinesis (LVEF 25%)",
        problem="excess fluid volume",
        watch="daily weight and urine output",
        diet="low sodium diet",
        advice="weigh yourself every morning and call if the weight rises by 3 pounds",
    ),
    Disease(
        name="atrial fibrillation",
        weight=1,
        kinds=(
            Kind("paroxysmal", "heavy alcohol use", "metoprolol", "25 mg PO b.i.d."),
            Kind("new-onset", "hyperthyroidism", "diltiazem", "30 mg PO q6h"),
            Kind("recurrent", "mitral valve disease", "amiodarone", "400 mg PO b.i.d."),
        ),
        symptoms=("palpitations", "dizziness", "fatigue"),
        risk="an enlarged atrium",
        exam="an irregularly irregular pulse",
        study="CHEST (PORTABLE AP)",
        findings=(
            "The cardiac silhouette is mildly enlarged.",
            "The lungs are clear, without edema.",
            "The aorta is tortuous and calcified.",
        ),
        impression="mild cardiomegaly without edema",
        lab="INR",
        lab_range=(2.4, 1.0),
        lab_unit="",
        support="anticoagulation with warfarin",
        service="Electrophysiology",
        complication="rapid ventricular response",
        rhythm="atrial fibrillation with rapid ventricular response",
        echo="The left atrium is markedly dilated, with moderate mitral regurgitation",
        problem="ineffective cardiac rate control",
        watch="telemetry and heart rate",
        diet="diet with a constant amount of vitamin K",
        advice="take the warfarin every evening and have the INR checked",
    ),
    Disease(
        name="myocardial infarction",
        weight=1,
        kinds=(
            Kind(
                "anterior",
                "occlusion of the anterior descending artery",
                "clopidogrel",
                "75 mg PO daily",
            ),
            Kind("inferior", "occlusion of the right coronary artery", "ticagrelor", "90 mg PO b.i.d."),
            Kind("acute", "rupture of a coronary plaque", "heparin", "800 units/hr IV"),
        ),
        symptoms=("substernal chest pain", "diaphoresis", "nausea"),
        risk="a family history of coronary disease",
        exam="a soft S4 gallop without a rub",
        study="CARDIAC CATHETERIZATION",
        findings=(
            "Coronary angiography showed a culprit stenosis.",
            "A drug-eluting stent was placed with good flow.",
            "The left ventricular filling pressure was elevated.",
        ),
        impression="successful stenting of the culprit coronary artery",
        lab="troponin",
        lab_range=(0.1, 4.6),
        lab_unit="ng/mL",
        support="aspirin 81 mg and a statin",
        service="Cardiology",
        complication="ventricular ectopy",
        rhythm="sinus rhythm with ST segment elevation",
        echo="There is regional hypokinesis of the infarcted wall (LVEF 40%)",
        problem="acute chest pain",
        watch="chest pain and the groin site",
        diet="cardiac diet",
        advice="never stop clopidogrel or aspirin without asking the cardiologist",
    ),
    Disease(
        name="stroke",
        weight=1,
        kinds=(
            Kind("embolic", "a thrombus of the left atrial appendage", "apixaban", "5 mg PO b.i.d."),
            Kind("ischemic", "carotid stenosis", "aspirin", "325 mg PO daily"),
            Kind("acute", "occlusion of the middle cerebral artery", "alteplase", "0.9 mg/kg IV once"),
        ),
        symptoms=("slurred speech", "facial droop", "arm weakness"),
        risk="untreated high blood pressure",
        exam="a {side} pronator drift and a {side} facial droop",
        study="CT HEAD W/O CONTRAST",
        findings=(
            "There is loss of gray-white differentiation in the middle cerebral territory.",
            "No intracranial hemorrhage is identified.",
            "The ventricles are normal in size, without midline shift.",
        ),
        impression="evolving infarct without hemorrhage",
        lab="LDL cholesterol",
        lab_range=(92, 164),
        lab_unit="mg/dL",
        support="atorvastatin 80 mg",
        service="Neurology",
        complication="dysphagia with aspiration",
        rhythm="sinus rhythm with atrial premature beats",
        echo="No thrombus is seen, and no patent foramen ovale",
        problem="impaired swallowing and speech",
        watch="neurologic checks and aspiration precautions",
        diet="pureed diet with thickened liquids",
        advice="continue speech therapy and call 911 for new weakness",
    ),
    Disease(
        name="gastrointestinal bleed",
        weight=1,
        kinds=(
            Kind("upper", "a duodenal ulcer", "pantoprazole", "40 mg IV b.i.d."),
            Kind("recurrent", "esophageal varices", "octreotide", "50 mcg/hr IV"),
            Kind("severe", "erosive gastritis", "esomeprazole", "40 mg IV b.i.d."),
        ),
        symptoms=("melena", "hematemesis", "lightheadedness"),
        risk="daily use of ibuprofen",
        exam="guaiac positive stool and pale conjunctivae",
        study="UPPER ENDOSCOPY",
        findings=(
            "Blood was seen in the stomach.",
            "A bleeding lesion was clipped and injected with epinephrine.",
            "Hemostasis was achieved at the end of the endoscopy.",
        ),
        impression="upper source of bleeding, treated by endoscopy",
        lab="hematocrit",
        lab_range=(32.5, 22.0),
        lab_unit="%",
        support="transfusion of two units of packed red cells",
        service="Gastroenterology",
        complication="hemorrhagic shock",
        rhythm="sinus tachycardia",
        echo="The left ventricle is small and hyperdynamic (LVEF>70%)",
        problem="risk for bleeding",
        watch="stool color and serial hematocrits",
        diet="clear liquids, then a soft diet",
        advice="avoid ibuprofen and alcohol, and call for black stools",
    ),
    Disease(
        name="pancreatitis",
        weight=1,
        kinds=(
            Kind("gallstone", "an impacted common duct stone", "ampicillin-sulbactam", "3 g IV q6h"),
            Kind("alcoholic", "binge drinking", "thiamine", "100 mg IV daily"),
            Kind("acute", "severe hypertriglyceridemia", "gemfibrozil", "600 mg PO b.i.d."),
        ),
        symptoms=("epigastric pain", "vomiting", "anorexia"),
        risk="gallbladder disease",
        exam="epigastric tenderness with guarding",
        study="CT ABDOMEN W/CONTRAST",
        findings=(
            "The pancreas is swollen with peripancreatic fat stranding.",
            "There is no pancreatic necrosis or pseudocyst.",
            "The common bile duct measures 9 mm.",
        ),
        impression="interstitial pancreatitis without necrosis",
        lab="lipase",
        lab_range=(88, 1450),
        lab_unit="U/L",
        support="aggressive intravenous fluids and hydromorphone",
        service="Surgery",
        complication="ileus",
        rhythm="sinus tachycardia",
        echo="Left ventricular systolic function is hyperdynamic",
        problem="acute abdominal pain",
        watch="pain score and abdominal girth",
        diet="nothing by mouth, then a low fat diet",
        advice="avoid alcohol and fatty food",
    ),
    Disease(
        name="cellulitis",
        weight=1,
        kinds=(
            Kind("bacterial", "methicillin-resistant Staphylococcus aureus", "vancomycin", "1 g IV q12h"),
            Kind("recurrent", "group A streptococcus", "cefazolin", "1 g IV q8h"),
            Kind("purulent", "Staphylococcus aureus", "nafcillin", "2 g IV q4h"),
        ),
        symptoms=("leg redness", "warmth", "swelling of the calf"),
        risk="chronic venous stasis",
        exam="an erythematous, tender {side} calf with an open wound",
        study="UNILAT LOWER EXT VEINS",
        findings=(
            "The {side} femoral and popliteal veins compress normally.",
            "There is subcutaneous edema of the {side} calf.",
            "No abscess is seen under the skin.",
        ),
        impression="skin edema of the {side} leg without abscess or deep thrombosis",
        lab="C-reactive protein",
        lab_range=(14, 168),
        lab_unit="mg/L",
        support="elevation of the leg and wound care",
        service="Infectious Disease",
        complication="a small skin abscess",
        rhythm="normal sinus rhythm",
        echo="No vegetation is seen on any valve",
        problem="impaired skin integrity",
        watch="the marked border of the redness",
        diet="diet rich in protein",
        advice="keep the leg raised and the wound dry",
    ),
    Disease(
        name="pyelonephritis",
        weight=1,
        kinds=(
            Kind("acute", "Escherichia coli", "ciprofloxacin", "400 mg IV q12h"),
            Kind("complicated", "an obstructing ureteral stone", "gentamicin", "100 mg IV q8h"),
            Kind("recurrent", "Proteus mirabilis", "cefpodoxime", "200 mg PO b.i.d."),
        ),
        symptoms=("flank pain", "dysuria", "rigors"),
        risk="a neurogenic bladder",
        exam="{side} costovertebral angle tenderness",
        study="RENAL U.S.",
        findings=(
            "The {side} kidney is enlarged with mild hydronephrosis.",
            "No perinephric abscess is seen.",
            "The bladder wall is thickened.",
        ),
        impression="mild {side} hydronephrosis",
        lab="urine white cell count",
        lab_range=(4, 180),
        lab_unit="/hpf",
        support="phenazopyridine for dysuria",
        service="Urology",
        complication="urosepsis",
        rhythm="sinus tachycardia",
        echo="Biventricular function is preserved",
        problem="impaired urinary elimination",
        watch="urine color and the Foley catheter",
        diet="regular diet with extra fluids",
        advice="drink two liters of water a day",
    ),
    Disease(
        name="diabetic ketoacidosis",
        weight=1,
        kinds=(
            Kind("severe", "missed insulin", "insulin regular", "6 units/hr IV"),
            Kind("mild", "a failed insulin pump", "insulin glargine", "20 units SC daily"),
            Kind("recurrent", "gastroparesis", "insulin lispro", "8 units SC t.i.d."),
        ),
        symptoms=("polyuria", "thirst", "blurred vision"),
        risk="diabetes since childhood",
        exam="dry mucous membranes and Kussmaul breathing",
        study="ABDOMEN (SUPINE ONLY)",
        findings=(
            "The stomach is distended with gas.",
            "There is a normal bowel gas pattern elsewhere.",
            "No free air is seen under the diaphragm.",
        ),
        impression="gastric distension without obstruction",
        lab="anion gap",
        lab_range=(11, 27),
        lab_unit="mEq/L",
        support="potassium repletion and saline",
        service="Endocrinology",
        complication="hypokalemia",
        rhythm="sinus tachycardia with peaked T waves",
        echo="The left ventricular cavity is small",
        problem="unstable blood glucose",
        watch="hourly fingersticks and ketones",
        diet="diabetic diet with counted carbohydrates",
        advice="check the blood glucose before meals and never skip insulin",
    ),
    Disease(
        name="COPD exacerbation",
        weight=1,
        kinds=(
            Kind("severe", "a viral respiratory infection", "methylprednisolone", "125 mg IV q6h"),
            Kind("acute", "Moraxella catarrhalis", "doxycycline", "100 mg PO b.i.d."),
            Kind("recurrent", "running out of inhalers", "prednisone", "60 mg PO daily"),
        ),
        symptoms=("wheezing", "dyspnea on exertion", "increased sputum"),
        risk="emphysema and smoking",
        exam="diffuse expiratory wheezes with a long expiration",
        study="CHEST (PA & LAT)",
        findings=(
            "The lungs are hyperinflated with flattened diaphragms.",
            "Emphysema is present in both upper lobes.",
            "There is no focal consolidation.",
        ),
        impression="emphysema without consolidation",
        lab="arterial pCO2",
        lab_range=(44, 71),
        lab_unit="mmHg",
        support="ipratropium and noninvasive ventilation",
        service="Pulmonary",
        complication="hypercarbic respiratory failure",
        rhythm="multifocal atrial tachycardia",
        echo="The right ventricle is dilated, with pulmonary hypertension",
        problem="ineffective airway clearance",
        watch="work of breathing and mental status",
        diet="diet of small, frequent meals",
        advice="stop smoking and rinse your mouth after the inhaler",
    ),
    Disease(
        name="pulmonary embolism",
        weight=1,
        kinds=(
            Kind("bilateral", "a deep vein thrombosis", "enoxaparin", "80 mg SC q12h"),
            Kind("massive", "a long flight", "tenecteplase", "40 mg IV once"),
            Kind("acute", "a recent knee operation", "rivaroxaban", "15 mg PO b.i.d."),
        ),
        symptoms=("pleuritic chest pain", "sudden dyspnea", "hemoptysis"),
        risk="recent immobility",
        exam="tachypnea and a tender {side} calf",
        study="CTA CHEST W&W/O C&RECONS",
        findings=(
            "There are filling defects in the {side} main pulmonary artery.",
            "The right ventricle is larger than the left.",
            "A wedge-shaped infarct abuts the pleura.",
        ),
        impression="acute {side} pulmonary embolus with right heart strain",
        lab="D-dimer",
        lab_range=(620, 5200),
        lab_unit="ng/mL",
        support="oxygen and compression stockings",
        service="Hematology",
        complication="right ventricular strain",
        rhythm="sinus tachycardia with an S1Q3T3 pattern",
        echo="The right ventricle is dilated and hypokinetic",
        problem="impaired gas exchange from clot",
        watch="signs of bleeding on anticoagulation",
        diet="regular diet",
        advice="take the blood thinner for six months",
    ),
    Disease(
        name="renal failure",
        weight=1,
        kinds=(
            Kind("acute", "dehydration", "normal saline", "125 mL/hr IV"),
            Kind("oliguric", "contrast nephropathy", "sodium bicarbonate", "650 mg PO t.i.d."),
            Kind("obstructive", "ureteral stones", "tamsulosin", "0.4 mg PO daily"),
        ),
        symptoms=("poor urine output", "pruritus", "metallic taste"),
        risk="long-standing kidney disease",
        exam="asterixis and dry skin",
        study="RENAL U.S.",
        findings=(
            "Both kidneys are echogenic, without stones.",
            "The {side} kidney measures 9.1 cm.",
            "There is no hydronephrosis after the Foley was placed.",
        ),
        impression="echogenic kidneys without hydronephrosis",
        lab="creatinine",
        lab_range=(1.3, 5.4),
        lab_unit="mg/dL",
        support="sevelamer and hemodialysis through a tunneled line",
        service="Nephrology",
        complication="hyperkalemia",
        rhythm="sinus rhythm with peaked T waves",
        echo="There is symmetric hypertrophy and a small pericardial effusion",
        problem="imbalanced fluids and electrolytes",
        watch="intake and output, and the dialysis line",
        diet="renal diet low in potassium",
        advice="avoid ibuprofen and contrast, and keep every dialysis session",
    ),
    Disease(
        name="cirrhosis",
        weight=1,
        kinds=(
            Kind("decompensated", "chronic hepatitis C", "lactulose", "30 mL PO t.i.d."),
            Kind("alcoholic", "decades of alcohol use", "rifaximin", "550 mg PO b.i.d."),
            Kind("cryptogenic", "fatty liver disease", "spironolactone", "100 mg PO daily"),
        ),
        symptoms=("abdominal distension", "confusion", "jaundice"),
        risk="hepatitis in the past",
        exam="scleral icterus, ascites and spider angiomata",
        study="LIVER OR GALLBLADDER US",
        findings=(
            "The liver is shrunken and nodular.",
            "There is a large amount of ascites.",
            "The spleen is enlarged, and the portal vein is patent.",
        ),
        impression="cirrhotic liver with ascites and splenomegaly",
        lab="total bilirubin",
        lab_range=(2.6, 9.4),
        lab_unit="mg/dL",
        support="paracentesis with albumin",
        service="Hepatology",
        complication="hepatic encephalopathy",
        rhythm="sinus rhythm with a prolonged QT interval",
        echo="There is a late appearance of bubbles, as in shunting of the lung",
        problem="acute confusion from liver disease",
        watch="mental status and bowel movements",
        diet="low sodium diet with bedtime snacks",
        advice="take enough lactulose for three bowel movements a day",
    ),
    Disease(
        name="hip fracture",
        weight=2,
        kinds=(
            Kind("displaced", "a fall from standing", "oxycodone", "5 mg PO q4h"),
            Kind("intertrochanteric", "osteoporosis", "alendronate", "70 mg PO weekly"),
            Kind("pathologic", "a bony metastasis", "morphine", "2 mg IV q4h"),
        ),
        symptoms=("groin pain", "inability to walk", "bruising of the thigh"),
        risk="falls at home",
        exam="a shortened and externally rotated {side} leg",
        study="HIP UNILAT MIN 2 VIEWS",
        findings=(
            "There is a fracture of the {side} femoral neck.",
            "The bones are demineralized.",
            "The pelvis and sacrum are intact.",
        ),
        impression="{side} femoral neck fracture",
        lab="hemoglobin",
        lab_range=(11.0, 8.1),
        lab_unit="g/dL",
        support="open reduction with internal fixation of the {side} hip",
        service="Orthopaedics",
        complication="postoperative delirium",
        rhythm="normal sinus rhythm",
        echo="There is mild calcific aortic stenosis",
        problem="impaired physical mobility",
        watch="the hip dressing and pulses of the foot",
        diet="regular diet with calcium and vitamin D",
        advice="walk with the walker and keep the hip precautions",
    ),
    Disease(
        name="seizure",
        weight=1,
        kinds=(
            Kind("generalized", "alcohol withdrawal", "lorazepam", "2 mg IV q6h"),
            Kind("focal", "a temporal lobe meningioma", "levetiracetam", "500 mg PO b.i.d."),
            Kind("breakthrough", "a low phenytoin level", "phenytoin", "100 mg PO t.i.d."),
        ),
        symptoms=("loss of consciousness", "tongue biting", "shaking of the limbs"),
        risk="epilepsy after head trauma",
        exam="postictal drowsiness with {side} gaze preference",
        study="MR HEAD W & W/O CONTRAST",
        findings=(
            "There is gliosis of the {side} temporal lobe.",
            "No diffusion abnormality or hemorrhage is seen.",
            "The hippocampi are symmetric.",
        ),
        impression="{side} temporal gliosis, a possible epileptic focus",
        lab="lactate",
        lab_range=(1.2, 7.4),
        lab_unit="mmol/L",
        support="continuous EEG monitoring",
        service="Neurology",
        complication="aspiration during a convulsion",
        rhythm="sinus tachycardia",
        echo="The study was limited by motion",
        problem="risk for injury from convulsions",
        watch="seizure precautions and EEG leads",
        diet="regular diet after a swallow evaluation",
        advice="do not drive for six months",
    ),
)


@dataclass(frozen=True)
class Comorbidity:
    """A condition from before, and the drug taken at home for it."""

    name: str
    drug: str
    dose: str


COMORBIDITIES = (
    Comorbidity("hypertension", "lisinopril", "10 mg PO daily"),
    Comorbidity("anemia", "ferrous sulfate", "325 mg PO t.i.d."),
    Comorbidity("hyperlipidemia", "simvastatin", "20 mg PO q.h.s."),
    Comorbidity("hypothyroidism", "levothyroxine", "75 mcg PO daily"),
    Comorbidity("gout", "allopurinol", "100 mg PO daily"),
    Comorbidity("depression", "sertraline", "50 mg PO daily"),
    Comorbidity("asthma", "fluticasone", "2 puffs b.i.d."),
    Comorbidity("reflux disease", "omeprazole", "20 mg PO daily"),
    Comorbidity("osteoarthritis", "acetaminophen", "650 mg PO q6h p.r.n."),
    Comorbidity("glaucoma", "latanoprost", "1 drop both eyes q.h.s."),
)

# Words that agree with the patient's sex, by their names in the templates.
PRONOUNS = {
    "M": {"man": "man", "he": "he", "He": "He", "his": "his", "His": "His", "him": "him", "Mr": "Mr."},
    "F": {
        "man": "woman",
        "he": "she",
        "He": "She",
        "his": "her",
        "His": "Her",
        "him": "her",
        "Mr": "Ms.",
    },
}
ALLERGIES = ("Latex", "Shellfish", "Bee Stings", "Adhesive Tape", "No Known Allergies")
KIN = {
    "M": ("wife", "son", "daughter", "brother", "sister", "mother"),
    "F": ("husband", "son", "daughter", "brother", "sister", "mother"),
}

# What changes from day to day, whatever the disease.
GENERAL_SYMPTOMS = ("fever", "chills", "cough", "nausea", "vomiting", "fatigue", "headache", "weakness", "dizziness")
SITES = ("chest", "abdominal", "back", "hip", "knee", "leg", "shoulder", "neck", "stomach")
PAINKILLERS = ("acetaminophen", "morphine", "oxycodone", "ibuprofen")
CHEMISTRY = ("sodium", "potassium", "glucose", "creatinine", "calcium", "lactate", "hemoglobin", "bilirubin")
