"""JupyterHub for a class on one Linux server; docs/teaching.md, "A class on a server", has the steps.

python -m jupyterhub -f deploy/hub/jupyterhub_config.py     as root: the learners are users of the machine
COURSE_HUB_TRIAL=/tmp/trial …the same…                      as anybody: any name and password, homes in that folder
"""

import os
import sys
from pathlib import Path

COURSE = Path(__file__).resolve().parents[2]  # on a server /srv/course, the copy without solutions
TRIAL = os.environ.get("COURSE_HUB_TRIAL")

c = get_config()

# On this machine only: a web server in front has the certificate. Passwords must not travel without one.
c.JupyterHub.bind_url = "http://127.0.0.1:8000"
# JavaScript's packages on Debian: its own node looks there by itself, others do not.
os.environ.setdefault("NODE_PATH", "/usr/share/nodejs")

if not TRIAL:
    # Each learner is a user of the machine, so files, processes and homework have owners…
    c.JupyterHub.authenticator_class = "pam"
    c.PAMAuthenticator.allowed_groups = {"learners", "teachers"}  # …but the machine's other users stay outside.
    c.PAMAuthenticator.admin_groups = {"teachers"}  # They may stop a learner's server.
    # A systemd unit for each learner: the only spawner without containers whose limits hold for all that one starts.
    c.JupyterHub.spawner_class = "systemdspawner.SystemdSpawner"
    c.SystemdSpawner.isolate_tmp = True  # What others leave in /tmp is not seen.
    c.SystemdSpawner.unit_extra_properties = {"TasksMax": "512"}  # A loop that forks stops itself, not the class.
else:
    c.JupyterHub.authenticator_class = "dummy"
    c.JupyterHub.spawner_class = "simple"  # All are the user who started the hub, without limits.
    c.SimpleLocalProcessSpawner.home_dir_template = os.path.join(os.path.abspath(TRIAL), "{username}")
    c.Spawner.args = ["--allow-root"] if os.geteuid() == 0 else []

# A lesson takes up to 2.5 GB (09 and 11), the server 0.2 GB, a second open lesson 1 GB. A kernel that wants more ends.
c.Spawner.mem_limit = "4G"
c.Spawner.cpu_limit = 2  # cores: one who trains leaves room for the others
# Makes or updates the learner's copy of the lessons as the learner, then starts Jupyter in it, on the start page.
c.Spawner.cmd = [str(COURSE / "deploy/hub/start-learner")]
c.Spawner.notebook_dir = "~/course"
c.Spawner.default_url = "/lab/tree/start.ipynb"
c.Spawner.http_timeout = 180  # seconds: forty first copies at once, at the beginning of a class
c.Spawner.environment = {
    "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",  # terminals find the course's python
    "PYTHONPATH": str(COURSE),  # this copy of the course, whatever is installed
    "COURSE_DATA": os.environ.get(
        "COURSE_DATA", str(COURSE / "data")
    ),  # one model on the disk for all, not theirs to write
    "COURSE_EXCHANGE": os.environ.get("COURSE_EXCHANGE", "/srv/exchange"),  # homework out and in
    "JUPYTER_CONFIG_PATH": str(COURSE / "deploy/hub/jupyter"),  # the list of homework, not the menu for teachers
    "OMP_NUM_THREADS": "2",  # as cpu_limit: else torch starts a thread a core for each learner
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait sleep: spinning, four learners on two cores took 50 times as long
    "LANG": "C.UTF-8",
}

# A server that nobody has used for an hour is stopped. Saved notebooks stay; a kernel's variables do not.
c.JupyterHub.services = [
    {"name": "cull", "command": [sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=3600"]},
]
c.JupyterHub.load_roles = [  # what it needs for that, and no more
    {
        "name": "cull",
        "services": ["cull"],
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
    },
]
