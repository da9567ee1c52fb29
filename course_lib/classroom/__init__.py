"""What a lesson's exercises call: `check`, `hint`, `progress`, and `grade` for graded cells."""
