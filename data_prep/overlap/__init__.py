"""Text that stands more than once: copies within a patient, between splits, and with test files."""
