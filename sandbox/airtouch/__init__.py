"""An SMS gateway of the AirTouch shape, with a book of what was really sent."""
