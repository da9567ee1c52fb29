"""nbgrader for learners on a server: homework in their copy of the lessons, handed in through the exchange."""

import os

c = get_config()
c.CourseDirectory.course_id = "from-prompt-to-response"
c.Exchange.root = os.environ["COURSE_EXCHANGE"]
# where the learner's copy has it: what is released counts as fetched, and Fetch brings back what was deleted
c.Exchange.assignment_dir = os.path.join(os.environ["COURSE_WORKSPACE"], "homework")
c.CourseDirectory.student_id = os.environ["JUPYTERHUB_USER"]  # in a container, or a trial, the system has one user
