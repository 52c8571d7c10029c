"""Making training data: pairs from structure, hard negatives by search, questions about long documents."""
