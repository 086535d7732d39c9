"""Why a service cannot be used, as one line for a person: what happened, and what to do."""
