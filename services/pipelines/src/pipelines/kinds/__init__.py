"""How each kind of step is done: look, act, look again. All of it can be done twice."""
