"""What joins the stages: the command line, the demo, the training command."""
