"""The processes that answer HTTP: a router that accepts, a warm parent that forks, and a worker for each deployment."""
