"""Why a service cannot be used, in one line for a person: what happened, and what to do."""
