"""Jupyter for learners on a server."""

c = get_config()
# nbgrader's list of assignments: to hand in, to fetch feedback. Not its Validate, which says "Success!" of an exercise
# that is not done, and nothing that is for teachers.
c.ServerApp.jpserver_extensions = {
    "nbgrader.server_extensions.assignment_list": True,
    "nbgrader.server_extensions.validate_assignment": False,
    "nbgrader.server_extensions.formgrader": False,
    "nbgrader.server_extensions.course_list": False,
}
# A lesson whose tab was closed gives its gigabyte back after twenty minutes; one that is open keeps its variables.
c.MappingKernelManager.cull_idle_timeout = 1200
c.MappingKernelManager.cull_interval = 120
