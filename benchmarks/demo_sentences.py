"""How many of a model's first three predictions fit in ten sentences: the last figure of `make demo`.

    python -m benchmarks.demo_sentences --model=demo/model

Sentences and fitting words were written before any model was asked, by medical common sense. No synthetic note has
the five words before a mask in that order. A word that fits is marked with '*'.
"""

from dataclasses import dataclass

from clinicalbert_jax import cli
from clinicalbert_jax.options import option
from clinicalbert_jax.pretrained import loading

TOP_K = 3
SENTENCES: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (sentence, frozenset(words.split()))
    for sentence, words in (
        (
            "The patient was admitted for [MASK] pneumonia.",
            "acute aspiration atypical bacterial bilateral complicated fungal influenza interstitial lobar mild "
            "moderate multifocal necrotizing new nosocomial persistent pneumococcal possible postoperative presumed "
            "primary probable recurrent secondary severe suspected viral worsening",
        ),
        (
            "The family says that he has [MASK] heart failure.",
            "acute advanced biventricular chronic compensated congestive decompensated diastolic ischemic known left "
            "mild moderate new persistent progressive recurrent refractory right severe stable systolic underlying "
            "worsening",
        ),
        (
            "In the emergency room she received [MASK] for pneumonia.",
            "albuterol amoxicillin ampicillin antibiotics azithromycin care cefepime cefpodoxime ceftriaxone "
            "clindamycin doxycycline fluids levofloxacin linezolid medication medications meropenem "
            "methylprednisolone moxifloxacin nebulizers oseltamivir oxygen penicillin piperacillin prednisone "
            "steroids therapy treatment vancomycin",
        ),
        (
            "He was most bothered by [MASK] and fever.",
            "anorexia chills confusion cough diaphoresis diarrhea dizziness dyspnea dysuria fatigue headache "
            "headaches hemoptysis jaundice lightheadedness malaise nausea pain palpitations rash redness rigors "
            "shivering sweats swelling thirst vomiting warmth weakness wheezing",
        ),
        (
            "Since this morning there has been severe [MASK] pain.",
            "abdominal acute ankle arm back bone breast burning calf chest constant epigastric eye facial flank foot "
            "groin head hip joint knee leg limb muscle neck pelvic persistent pleuritic retrosternal sharp shoulder "
            "stomach substernal thigh throat",
        ),
        (
            "Her past illnesses also include [MASK] and gout.",
            "anemia anxiety arthritis asthma cancer cellulitis cirrhosis copd dementia depression diabetes emphysema "
            "epilepsy glaucoma hepatitis hyperlipidemia hypertension hyperthyroidism hypothyroidism migraine obesity "
            "osteoarthritis osteoporosis pancreatitis pneumonia pyelonephritis reflux seizures stroke",
        ),
        (
            "A specialist was called in from [MASK] to see her.",
            "anesthesia cardiology dermatology electrophysiology endocrinology gastroenterology gi hematology "
            "hepatology medicine nephrology neurology neurosurgery nutrition oncology orthopaedics orthopedics "
            "pharmacy psychiatry pulmonary radiology renal rheumatology surgery urology",
        ),
        (
            "She lives alone since the death of her [MASK].",
            "aunt brother child companion daughter father friend grandmother husband mother parents partner sister "
            "son spouse uncle wife",
        ),
        (
            "The blood test this morning showed a high [MASK].",
            "ammonia bilirubin bnp bun calcium chloride cholesterol creatinine crp ferritin glucose hematocrit "
            "hemoglobin inr lactate ldl lipase potassium protein sodium sugar triglycerides troponin urea wbc",
        ),
        (
            "After a fall at home her [MASK] hip fracture was repaired.",
            "acute bilateral closed comminuted complex complicated displaced intertrochanteric left nondisplaced "
            "open pathologic right severe simple stable subtrochanteric traumatic unstable",
        ),
    )
)


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    model: str = option("A run, an exported directory, or a Hugging Face BERT.")


def main(options: Options) -> None:
    """Print one line for each sentence, and the fraction over all of them."""
    source = loading.find(options.model)
    from clinicalbert_jax.inference import Inference  # imports JAX, which takes seconds: after the options are checked

    found = Inference(loading.load(source)).fill_mask([sentence for sentence, _ in SENTENCES], TOP_K)
    fitting = 0
    for (sentence, accepted), (predictions,) in zip(SENTENCES, found, strict=True):
        words = [prediction.text for prediction in predictions]
        fitting += sum(word.lower() in accepted for word in words)
        print(f"{sentence:<62}", ", ".join(word + "*" * (word.lower() in accepted) for word in words))
    asked = TOP_K * len(SENTENCES)
    print(f"{fitting} of {asked} predictions fit ({fitting / asked:.0%})")


if __name__ == "__main__":
    cli.run(main, Options)
