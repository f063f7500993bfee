WORKER = "_worker"  # the command that a supervisor starts; for nobody else
