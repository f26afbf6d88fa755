"""Enrolment at the gateway: which models a provider gets tasks for, and with which rights."""
