"""The ICD codes of the invented diagnoses and procedures: of each, ICD-9-CM and ICD-10, without points."""

from typing import NamedTuple


class Code(NamedTuple):
    """One thing in both versions."""

    icd9: str
    icd10: str


DISEASES = {
    "pneumonia": Code("486", "J189"),
    "heart failure": Code("4280", "I509"),
    "atrial fibrillation": Code("42731", "I4891"),
    "myocardial infarction": Code("41071", "I214"),
    "stroke": Code("43491", "I639"),
    "gastrointestinal bleed": Code("5789", "K922"),
    "pancreatitis": Code("5770", "K8590"),
    "cellulitis": Code("6829", "L0390"),
    "pyelonephritis": Code("59080", "N12"),
    "diabetic ketoacidosis": Code("25013", "E1010"),
    "COPD exacerbation": Code("49121", "J441"),
    "pulmonary embolism": Code("41519", "I2699"),
    "renal failure": Code("5849", "N179"),
    "cirrhosis": Code("5715", "K7460"),
    "hip fracture": Code("8208", "S72009A"),
    "seizure": Code("78039", "R569"),
}
COMORBIDITIES = {
    "hypertension": Code("4019", "I10"),
    "anemia": Code("2859", "D649"),
    "hyperlipidemia": Code("2724", "E785"),
    "hypothyroidism": Code("2449", "E039"),
    "gout": Code("2749", "M109"),
    "depression": Code("311", "F329"),
    "asthma": Code("49390", "J45909"),
    "reflux disease": Code("53081", "K219"),
    "osteoarthritis": Code("71590", "M1990"),
    "glaucoma": Code("3659", "H409"),
}
# Organisms; their ICD-9 codes begin with a zero.
CAUSES = {
    "Streptococcus pneumoniae": Code("0412", "B953"),
    "Haemophilus influenzae": Code("0415", "B963"),
    "Pseudomonas aeruginosa": Code("0417", "B965"),
    "Escherichia coli": Code("0414", "B9620"),
    "Staphylococcus aureus": Code("04111", "B9561"),
    "methicillin-resistant Staphylococcus aureus": Code("04112", "B9562"),
    "Proteus mirabilis": Code("0416", "B964"),
    "chronic hepatitis C": Code("07054", "B182"),
}
NEWBORN = Code("V3000", "Z3800")
PROCEDURES = {
    "myocardial infarction": Code("0066", "02703ZZ"),
    "gastrointestinal bleed": Code("4516", "0DB68ZX"),
    "hip fracture": Code("8152", "0SRR0JZ"),
    "renal failure": Code("3995", "5A1D70Z"),
    "stroke": Code("9910", "3E03317"),
}
