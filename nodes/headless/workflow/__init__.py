"""Read workflow files and turn them into the API format: nodes by id, ready to be validated and executed."""
