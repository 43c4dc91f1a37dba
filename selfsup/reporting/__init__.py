"""What a run was and found, as one page: run.py reads its folder, page.py writes."""
