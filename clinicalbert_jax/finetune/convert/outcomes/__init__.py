"""Outcomes of hospital admissions, from the tables and notes of MIMIC-III and MIMIC-IV."""
